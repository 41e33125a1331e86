"""Where and when a study's pods are to run, as far as it may say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hippo.kube.pods.template_allowance import (
    PRIORITY_CLASSES,
    RUNTIME_CLASSES,
    SCHEDULERS,
    TOLERATIONS,
    Allowance,
    how_to_allow,
)
from hippo.kube.pods.template_containers import NAMED, keyed
from hippo.kube.pods.template_kinds import (
    MAX_SHOWN,
    TEXT,
    TEXT_MAP,
    TEXTS,
    WHOLE,
    Fields,
    Kind,
    ListOf,
    MapOf,
    Never,
    listed,
    one_of,
    refuse_node_key,
)


def _node_rule(term: Mapping[str, Any], allowance: Allowance) -> Iterator[tuple[str, str]]:
    wrong = refuse_node_key(term.get("key"), allowance)
    if wrong and term.get("operator") not in ("NotIn", "DoesNotExist"):  # to keep away: no harm
        yield "key", wrong


def _toleration_rule(found: Mapping[str, Any], allowance: Allowance) -> Iterator[tuple[str, str]]:
    key = found.get("key")
    if not key:
        yield "key", "is missing: name the taint; without one, all would be tolerated"
    elif isinstance(key, str) and not allowance.has(TOLERATIONS, key):
        shown = key[:MAX_SHOWN]
        yield "key", f"must not be {shown} here: {how_to_allow(TOLERATIONS, shown)}"


_REQUIREMENT: dict[str, Kind] = {"key": TEXT, "operator": TEXT, "values": TEXTS}
_SELECTOR = Fields({"matchLabels": TEXT_MAP, "matchExpressions": ListOf(Fields(_REQUIREMENT))})
_NODE_TERM = Fields(
    {
        "matchExpressions": ListOf(Fields(_REQUIREMENT, rule=_node_rule)),
        "matchFields": ListOf(Fields(_REQUIREMENT)),
    }
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_POD_TERM = Fields(
    # Only pods of the study's own namespace may be selected.
    {
        "labelSelector": _SELECTOR,
        "topologyKey": TEXT,
        "matchLabelKeys": TEXTS,
        "mismatchLabelKeys": TEXTS,
    }
)
_POD_AFFINITY = Fields(
    {
        _REQUIRED: ListOf(_POD_TERM),
        _PREFERRED: ListOf(Fields({"weight": WHOLE, "podAffinityTerm": _POD_TERM})),
    }
)
_AFFINITY = Fields(
    {
        "nodeAffinity": Fields(
            {
                _REQUIRED: Fields({"nodeSelectorTerms": ListOf(_NODE_TERM)}),
                _PREFERRED: ListOf(Fields({"weight": WHOLE, "preference": _NODE_TERM})),
            }
        ),
        "podAffinity": _POD_AFFINITY,
        "podAntiAffinity": _POD_AFFINITY,
    }
)
SCHEDULING: dict[str, Kind] = {
    "affinity": _AFFINITY,
    "nodeName": Never("leaves out the scheduler: use nodeSelector or affinity instead", (None, "")),
    "nodeSelector": MapOf(TEXT, of_nodes=True),
    "priorityClassName": listed(PRIORITY_CLASSES),
    "runtimeClassName": listed(RUNTIME_CLASSES),
    "schedulerName": listed(SCHEDULERS),
    "schedulingGates": keyed(NAMED, "spec", "schedulingGates"),
    "resourceClaims": keyed(
        Fields({"name": TEXT, "resourceClaimName": TEXT, "resourceClaimTemplateName": TEXT}),
        "spec",
        "resourceClaims",
    ),
    "tolerations": ListOf(
        Fields(
            {
                "key": TEXT,
                "operator": TEXT,
                "value": TEXT,
                "effect": TEXT,
                "tolerationSeconds": WHOLE,
            },
            rule=_toleration_rule,
        )
    ),
    "topologySpreadConstraints": keyed(
        Fields(
            {
                "topologyKey": TEXT,
                "whenUnsatisfiable": one_of("DoNotSchedule", "ScheduleAnyway"),
                "maxSkew": WHOLE,
                "minDomains": WHOLE,
                "labelSelector": _SELECTOR,
                "matchLabelKeys": TEXTS,
                "nodeAffinityPolicy": one_of("Honor", "Ignore"),
                "nodeTaintsPolicy": one_of("Honor", "Ignore"),
            }
        ),
        "spec",
        "topologySpreadConstraints",
    ),
}
