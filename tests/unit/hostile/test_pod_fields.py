"""Every field of a pod that Kubernetes has is allowed knowingly, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hippo.kube.pods.template_allowance import BUILT_IN
from hippo.kube.pods.template_fields import SPEC, find_kind
from hippo.kube.pods.template_kinds import Fields, Kind, ListOf, MapOf, Never, Value
from hippo.kube.pods.template_validation import PATH, check_template
from hippo.model import InvalidSpec
from tests.unit.hostile.pod_types import (
    POD_SPEC,
    documents,
    fields_of,
    item_of,
    misfits,
    places,
    value_of,
)
from tests.unit.hostile.test_templates import build, violations

ALL = {place: (type_, kind) for place, type_, kind in places(POD_SPEC, SPEC)}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("lifecycle.postStart", "lifecycle.preStop")
_AFFINITIES = tuple(
    f"affinity.{kind}.{when}DuringSchedulingIgnoredDuringExecution{term}"
    for kind in ("podAffinity", "podAntiAffinity")
    for when, term in (("preferred", ".podAffinityTerm"), ("required", ""))
)
LEFT_OUT = {
    # What an administrator can allow. A new field of Kubernetes' belongs here, or in the list.
    *(f"spec.{one}" for one in (
        "evictionResponders", "hostnameOverride", "overhead", "preemptionPolicy", "priority",
        "readinessGates", "resources", "schedulingGroup",
        "securityContext.seLinuxOptions.level",
    )),
    *(f"spec.{one}.{field}" for one in _AFFINITIES
      for field in ("namespaceSelector", "namespaces")),
    *(f"spec.{containers}.{field}" for containers in ("containers", "initContainers") for field in (
        "env.valueFrom.fileKeyRef",
        "lifecycle.stopSignal",
        "resizePolicy",
        "securityContext.seLinuxOptions.level",
        "volumeMounts.bindMountOptions",
        *(f"{probe}.grpc.mode" for probe in _PROBES),
        *(f"{action}.httpGet.protocol" for action in (*_PROBES, *_HOOKS)),
    )),
    "spec.initContainers.restartPolicyRules",
    *(f"spec.volumes.ephemeral.volumeClaimTemplate.{field}" for field in (
        "metadata", "spec.dataSourceRef.namespace", "spec.selector",
        "spec.volumeAttributesClassName", "spec.volumeName",
    )),
    *(f"spec.volumes.{kind}.{field}" for kind in ("configMap", "downwardAPI", "secret")
      for field in ("defaultUser", "items.user")),
    *(f"spec.volumes.projected.{field}" for field in (
        "defaultUser", "sources.clusterTrustBundle",
        *(f"sources.{kind}.items.user" for kind in ("configMap", "downwardAPI", "secret")),
    )),
    "spec.volumes.emptyDir.mode",
}  # fmt: skip
KINDS_OF_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}
"""Of the restricted standard's."""


def is_never(place: str) -> bool:
    return isinstance(find_kind(place), Never)


def test_each_field_is_listed_left_out_or_never_allowed() -> None:
    found = {place for place, (_, kind) in ALL.items() if kind is None and not is_never(place)}
    assert found == LEFT_OUT
    volumes = {place for place in ALL if re.fullmatch(r"spec\.volumes\.\w+", place)}
    allowed = {place.rpartition(".")[2] for place in volumes if not is_never(place)} - {"name"}
    assert allowed == KINDS_OF_VOLUMES
    assert len(ALL) > 400


def test_the_list_names_no_field_that_kubernetes_has_not() -> None:
    def unknown(kind: Kind, type_: str, place: str) -> list[str]:
        match kind:
            case ListOf():
                return unknown(kind.item, item_of(type_) or "no list", place)
            case MapOf():
                return unknown(kind.value, value_of(type_) or "no map", place)
            case Fields():
                known = fields_of(type_)
                return [
                    found
                    for name, inner in kind.known.items()
                    for found in (
                        unknown(inner, known[name], f"{place}.{name}")
                        if name in known
                        else [f"{place}.{name}"]
                    )
                ]
            case _:
                return [place] if type_.startswith("no ") else []

    assert unknown(SPEC, POD_SPEC, "spec") == []


SAFE = "kernel.shm_rmid_forced"  # a name for anything, and for a sysctl
DOCS = Path(__file__).parents[3] / "docs"


def test_the_docs_list_what_may_be_set() -> None:
    section = (DOCS / "kubernetes.md").read_text().partition("## podTemplate")[2]
    section = section.partition("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", section))
    told |= {"livenessProbe", "readinessProbe", "startupProbe"}  # "probes"
    told |= {"name", "stdinOnce"}
    listed = {
        place.rpartition(".")[2]
        for place, (_, kind) in ALL.items()
        if kind is not None and not is_never(place)
        if re.fullmatch(r"spec\.(containers\.|initContainers\.|volumes\.)?\w+", place)
    }
    assert listed - told == set()
    assert len(listed) > 50
    operations = (DOCS / "operations.md").read_text()
    assert all(f"`{kind}`" in operations for kind in (*BUILT_IN, "ownNamespace"))
    names = {name for kind, found in BUILT_IN.items() for name in found if kind != "schedulers"}
    assert all(name.rpartition("/")[2] in section for name in names)


KEYS = {"name": SAFE, "ip": "x", "containerPort": 1, "mountPath": "/x", "devicePath": "/x"}
KEYS |= {"topologyKey": "x", "whenUnsatisfiable": "DoNotSchedule", "key": "nvidia.com/gpu"}


def template(place: str, value: Any) -> dict[str, Any]:
    """One that sets this field, and as little else as can be."""
    _, *names = place.split(".")

    def fill(kind: Kind | None, names: list[str]) -> Any:
        if isinstance(kind, ListOf):
            # A value for the list itself is given as a whole.
            return [fill(kind.item, names)] if names else value
        if not names:
            return value
        assert isinstance(kind, Fields)
        first, *rest = names
        needed = {key: KEYS[key] for key in KEYS if isinstance(kind.known.get(key), Value)}
        if "localhostProfile" in kind.known:
            needed["type"] = "Localhost"
        return {**needed, first: fill(kind.known.get(first), rest)}

    found = fill(SPEC, names)
    assert isinstance(found, dict)
    return found


def refusals(document: dict[str, Any]) -> dict[str, str]:
    """By place within a pod."""
    try:
        check_template({"spec": document})
    except InvalidSpec as error:
        return {
            re.sub(r"\[[^]]*\]", "", path.removeprefix(f"{PATH}.")): message
            for path, message in error.errors
        }
    return {}


@pytest.mark.parametrize("value", [True, 1, "x", {"x": 1}, ["x"]])
def test_what_is_not_listed_is_refused_by_name(value: Any) -> None:
    for place in sorted(LEFT_OUT | {"spec.volumes.nfs", "spec.volumes.aKindToCome"}):
        found = refusals(template(place, value))
        assert set(found) == {place}
        if place in LEFT_OUT:
            assert f"stagePods.allow.fields: [{place[:63]}" in found[place]


def test_what_can_never_be_allowed_says_why() -> None:
    for place in sorted(place for place in ALL if is_never(place)):
        for value in (1, "x", {"x": 1}):
            assert place in refusals(template(place, value)), place


CANDIDATES: list[Any] = [
    *("x", "/x", 1, True, False, "1Gi", "Always", "Never", "None", "Default", "RuntimeDefault"),
    *("ClusterFirst", "DoNotSchedule", "Honor", "HTTP", "TCP", "File", "Merge", "Recursive"),
    *("Filesystem", "Disabled", "default-scheduler", "nvidia.com/gpu", "container_t"),
    *(SAFE, "linux"),
]
LISTED = {"spec.priorityClassName", "spec.runtimeClassName", "spec.volumes.csi.driver"}
"""Of these, no value is allowed until an administrator has listed it."""


@pytest.mark.slow
def test_each_listed_field_can_be_set_and_to_no_value_of_another_type() -> None:
    count = 0
    for place, (type_, kind) in ALL.items():
        if not isinstance(kind, Value):
            continue
        right = [one for one in CANDIDATES if not refusals(template(place, one))]
        assert (right == []) is (place in LISTED), place
        assert all(list(misfits(one, type_)) == [] for one in right), place
        wrong = [one for one in (True, 1, 1.5, "true", [], {}) if list(misfits(one, type_))]
        assert wrong
        assert all(place in refusals(template(place, one)) for one in wrong), place
        count += 1
    assert count > 250


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(documents(POD_SPEC))
def test_what_is_accepted_is_a_pod_of_the_restricted_standard(document: Any) -> None:
    try:
        check_template({"spec": document})
    except InvalidSpec:
        return
    assert list(misfits(document, POD_SPEC)) == []
    pod = build({"spec": document})
    if pod is not None:  # or it would hide the assignment
        assert violations(pod) == []
        assert list(misfits(pod["spec"], POD_SPEC)) == []


SOUND = [
    place
    for place, (_, kind) in ALL.items()
    if isinstance(kind, Value) and place not in LISTED and ".csi." not in place
]


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(SOUND), st.sampled_from(CANDIDATES)), max_size=3))
def test_so_is_what_is_made_of_listed_fields(given_: list[tuple[str, Any]]) -> None:
    """Mostly accepted, other than the above."""
    document: dict[str, Any] = {}
    for place, value in given_:
        document.update(template(place, value))
    pod = build({"spec": document})
    if pod is not None:
        assert violations(pod) == []
        assert list(misfits(pod["spec"], POD_SPEC)) == []
