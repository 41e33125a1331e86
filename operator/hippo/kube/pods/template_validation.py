"""What a user's ``podTemplate`` must not ask for, and what of it cannot be merged.

Whoever may create a Study need not be allowed to create pods, and the operator is. So a template
may set what ``template_fields`` lists, to values of its kinds, and what an administrator allows
beside; all else is refused, here and by name. What else is wrong the API server says, in a dry run
of the first pod.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from hippo.kube import names
from hippo.kube.pods.template_allowance import (
    ANNOTATIONS,
    LABELS,
    NOTHING_MORE,
    VALUES,
    Allowance,
    how_to_allow,
)
from hippo.kube.pods.template_containers import RESOURCES
from hippo.kube.pods.template_fields import SPEC
from hippo.kube.pods.template_kinds import MAX_SHOWN, Checker
from hippo.kube.pods.template_security import NOT_PRIVILEGED
from hippo.kube.pods.template_volumes import RESERVED_PREFIX
from hippo.model import InvalidSpec
from hippo.model.errors import Problems
from hippo.model.study import TrainerSpec

PATH = "spec.trainer.podTemplate"

TEMPORARY_VOLUME = f"{RESERVED_PREFIX}tmp"
"""The one of the operator's volumes over which a template may mount another."""

_PRIVILEGED_ANNOTATIONS = (
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "kubernetes.io/config.",
    "seccomp.security.alpha.kubernetes.io/",
)
"""Beginnings of annotations that kubelets take for settings: of a profile, and of static pods."""


def check_template(template: Mapping[str, Any], allowance: Allowance = NOTHING_MORE) -> None:
    """Raises InvalidSpec with all that no study's pod may have, or that cannot be merged."""
    problems = Problems()
    if not isinstance(template, Mapping):
        raise InvalidSpec.at(PATH, "must be a mapping with metadata and spec")
    metadata, spec, path = split_template(template)
    if path != PATH:
        for field in template:
            if field not in ("metadata", "spec"):
                problems.add(f"{PATH}.{field}", "is not known here: metadata and spec are")
    _check_metadata(metadata, allowance, problems)
    if isinstance(spec, Mapping):
        Checker(allowance, problems).check(SPEC, spec, path, "spec")
        _check_names(spec, path, problems)
    else:
        problems.add(path, "must be a mapping: the fields of a pod's spec")
    problems.raise_if_any()


def check_trainer(
    trainer: TrainerSpec, namespace: str, own_namespace: str | None, allowance: Allowance
) -> None:
    """All that a study says of its pods: where they are, resources, template. Raises
    InvalidSpec.
    """
    if namespace == own_namespace:
        raise InvalidSpec.at(
            "metadata.namespace",
            "is the operator's own, where its keys lie: make the study in another namespace;"
            f" an administrator can allow this one by {VALUES}.ownNamespace: true in the chart's"
            " values",
        )
    problems = Problems()
    Checker(allowance, problems).check(
        RESOURCES, trainer.resources, "spec.trainer.resources", "spec.containers.resources"
    )
    problems.raise_if_any()
    check_template(trainer.pod_template, allowance)


def split_template(template: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """Metadata, spec, and the path of the latter."""
    if not template or "spec" in template or "metadata" in template:
        metadata, spec = template.get("metadata"), template.get("spec")
        return (
            ({} if metadata is None else metadata),
            ({} if spec is None else spec),
            f"{PATH}.spec",
        )
    return {}, template, PATH


def _check_metadata(metadata: Any, allowance: Allowance, problems: Problems) -> None:
    path = f"{PATH}.metadata"
    if not isinstance(metadata, Mapping):
        problems.add(path, "must be a mapping with labels and annotations")
        return
    for field, values in metadata.items():
        where = f"{path}.{str(field)[:MAX_SHOWN]}"
        if field not in (LABELS, ANNOTATIONS):
            problems.add(where, "is the operator's: only labels and annotations can be set here")
        elif not isinstance(values, Mapping):
            problems.add(where, "must be a mapping of names to text")
        else:
            for name, value in values.items():
                wrong = _refuse_label(field, str(name), value, allowance)
                if wrong is not None:
                    problems.add(f"{where}[{str(name)[:MAX_SHOWN]}]", wrong)


def _refuse_label(field: str, name: str, value: Any, allowance: Allowance) -> str | None:
    """Why a label or an annotation cannot be set; None: it can."""
    if (reserved := refuse_name(field, name)) is not None:
        return reserved
    if not is_private(name) and not allowance.has(field, name):
        shown = name[:MAX_SHOWN]
        return f"is not among the {field} that a study may set: {how_to_allow(field, shown)}"
    if value is not None and not isinstance(value, str):
        return f'must be text: write "{str(value)[:MAX_SHOWN]}" with quotes'
    return None


def is_private(name: str) -> bool:
    """Whether it is the user's own, by Kubernetes' convention: it has no prefix. Runtimes of
    containers obey some such names, which are those of domains (``io.kubernetes.cri-o.Devices``).
    """
    return not {"/", "."} & set(name)


def refuse_name(field: str, name: str) -> str | None:
    """Why no study can have this label or annotation, whatever an administrator allows: Services
    and NetworkPolicies of a release select pods by the first, kubelets obey the second.
    """
    prefix = name.partition("/")[0]
    is_ours = prefix == names.GROUP or prefix.endswith(f".{names.GROUP}")
    if is_ours or name == names.LABEL_MANAGED_BY:
        return "is the operator's: choose another name"
    if field == LABELS and prefix == names.APPLICATION_LABELS:
        return f"belongs to what is installed: labels of {prefix}/ select its pods; remove it"
    if field == ANNOTATIONS and name.startswith(_PRIVILEGED_ANNOTATIONS):
        return NOT_PRIVILEGED
    return None


def _check_names(spec: Mapping[str, Any], path: str, problems: Problems) -> None:
    for field in ("containers", "initContainers"):
        seen: set[str] = set()
        for container, position in _mappings(spec.get(field), f"{path}.{field}"):
            name = str(container.get("name") or names.TRAINER_CONTAINER)
            if name in seen:
                own = "; one without a name is the trainer's"
                problems.add(
                    position,
                    f"is the second container {name[:MAX_SHOWN]}: give it a name of its own"
                    + (own if name == names.TRAINER_CONTAINER else ""),
                )
            seen.add(name)


def _mappings(items: Any, path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping):
            yield item, f"{path}[{index}]"


def check_assignment(base: Mapping[str, Any], spec: Mapping[str, Any], path: str) -> None:
    """Nothing may hide or replace what tells the runner its work, or what else the operator mounts.
    ``spec`` is a template's, checked otherwise and lying at ``path``. Raises InvalidSpec.
    """
    problems = Problems()
    own = base.get("spec", {})
    volumes = {v.get("name"): _describe(v) for v in own.get("volumes", []) if _is_reserved(v)}
    for index, volume in enumerate(spec.get("volumes", [])):
        if volume["name"] in volumes:
            problems.add(
                f"{path}.volumes[{index}].name",
                f"holds {volumes[volume['name']]}: choose another name",
            )
    places = [
        (_place(mount["mountPath"]), volumes[mount.get("name")])
        for container in own.get("containers", [])
        if container.get("name") == names.TRAINER_CONTAINER
        for mount in container.get("volumeMounts", [])
        if mount.get("name") in volumes
    ]
    for index, container in enumerate(spec.get("containers", [])):
        if (container.get("name") or names.TRAINER_CONTAINER) == names.TRAINER_CONTAINER:
            _check_places(container, f"{path}.containers[{index}]", volumes, places, problems)
    problems.raise_if_any()


def _check_places(
    container: Mapping[str, Any],
    path: str,
    volumes: Mapping[Any, str],
    places: Iterable[tuple[PurePosixPath, str]],
    problems: Problems,
) -> None:
    """Check the mounts of the trainer's own container."""
    mounts = container.get("volumeMounts", [])
    for position, mount in enumerate(mounts):
        if mount.get("name") in volumes:
            problems.add(
                f"{path}.volumeMounts[{position}].name",
                f"holds {volumes[mount['name']]}, which is mounted already: remove it",
            )
    used = [
        (f"volumeMounts[{position}].mountPath", mount["mountPath"])
        for position, mount in enumerate(mounts)
        if mount.get("name") not in volumes
    ]
    used += [("terminationMessagePath", container.get("terminationMessagePath") or "/dev/null")]
    used += [
        (f"volumeDevices[{position}].devicePath", device["devicePath"])
        for position, device in enumerate(container.get("volumeDevices", []))
    ]
    for field, given in used:
        place = _place(given)
        for taken, what in places:
            if place.is_relative_to(taken) or taken.is_relative_to(place):
                problems.add(f"{path}.{field}", f"{what} lies there: choose another path")
                break


def _is_reserved(volume: Mapping[str, Any]) -> bool:
    name = str(volume.get("name"))
    is_other = name.startswith(RESERVED_PREFIX) and name != TEMPORARY_VOLUME
    return is_other or _holds_assignment(volume)


def _describe(volume: Mapping[str, Any]) -> str:
    if _holds_assignment(volume):
        return "the pod's assignment"
    return f"the operator's volume {volume.get('name')}"


def _holds_assignment(volume: Mapping[str, Any]) -> bool:
    return names.ANNOTATION_ASSIGNMENT in str(volume.get("downwardAPI", ""))


def _place(path: Any) -> PurePosixPath:
    return PurePosixPath("/", posixpath.normpath(str(path)).lstrip("/"))
