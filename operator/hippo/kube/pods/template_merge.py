"""A user's ``podTemplate`` over the pod that the operator builds: merged as Kubernetes would.

What a template must not ask for is in ``template_rules``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hippo.kube import names
from hippo.kube.pods.template_allowance import NOTHING_MORE, Allowance
from hippo.kube.pods.template_containers import KEY_DEFAULTS, MERGE_KEYS
from hippo.kube.pods.template_validation import (
    PATH,
    check_assignment,
    check_template,
    split_template,
)

__all__ = ["PATH", "check_template", "merge_pod"]

_ITEM_KINDS = {
    "containers": "container",
    "initContainers": "container",
    "volumes": "volume",
    "env": "variable",
}
_ONE_OF: dict[str, frozenset[str]] = {
    # Of these items only one field beside those named here may stand: a new one drops the old one.
    "volume": frozenset({"name"}),
    "variable": frozenset({"name"}),
}


def merge_pod(
    base: Mapping[str, Any], template: Mapping[str, Any], allowance: Allowance = NOTHING_MORE
) -> dict[str, Any]:
    """The pod with what the template says; neither is changed.

    ``template`` holds ``metadata`` and ``spec``, or is the spec itself. Maps are merged deeply,
    null deletes; lists whose items have a key are merged by it, others are replaced. The container
    without a name, or named ``trainer``, is the trainer's; others are added, with the security
    settings of the trainer's own. Merging twice is merging once. Raises InvalidSpec.
    """
    check_template(template, allowance)
    metadata, spec, path = split_template(template)
    check_assignment(base, spec, path)
    pod = dict(base)
    pod["metadata"] = _merge(base.get("metadata", {}), metadata, "metadata")
    pod["spec"] = _merge(base.get("spec", {}), _with_secured(base, _with_names(spec)), "spec")
    return copy.deepcopy(pod)


# -- merging ---------------------------------------------------------------------------------------


def _merge(base: Any, patch: Mapping[str, Any], kind: str) -> dict[str, Any]:
    merged = dict(base) if isinstance(base, Mapping) else {}
    if kind in _ONE_OF:
        given = {name for name, value in patch.items() if value is not None}
        if given - _ONE_OF[kind]:
            keep = given | _ONE_OF[kind]
            merged = {name: value for name, value in merged.items() if name in keep}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _merge(merged.get(name), value, "")
        elif (kind, name) in MERGE_KEYS:
            old = merged.get(name)
            merged[name] = _merge_lists(
                old if isinstance(old, list) else [],
                value,
                MERGE_KEYS[kind, name],
                _ITEM_KINDS.get(name, ""),
            )
        else:
            merged[name] = value
    return merged


def _merge_lists(
    base: Sequence[Any], patch: Sequence[Any], keys: tuple[str, ...], kind: str
) -> list[Any]:
    """Items of the base keep their places; new ones follow."""
    merged: dict[tuple[Any, ...], Any] = {_key(item, keys): item for item in base}
    for item in patch:
        key = _key(item, keys)
        merged[key] = _merge(merged.get(key), item, kind)
    return list(merged.values())


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(item.get(key) or KEY_DEFAULTS.get(key) for key in keys)


def _with_names(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The container without a name is the trainer's."""
    named = dict(spec)
    if "containers" in named:
        named["containers"] = [
            {**container, "name": container.get("name") or names.TRAINER_CONTAINER}
            for container in named["containers"]
        ]
    return named


def _with_secured(base: Mapping[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """Containers that the base lacks begin with the security settings of the trainer's."""
    secured = dict(spec)
    own = base.get("spec", {})
    settings = next(
        (
            container["securityContext"]
            for container in own.get("containers", [])
            if container.get("name") == names.TRAINER_CONTAINER and "securityContext" in container
        ),
        None,
    )
    if settings is None:
        return secured
    for field in {"containers", "initContainers"} & spec.keys():
        known = {container.get("name") for container in own.get(field, [])}
        secured[field] = [
            container
            if container.get("name") in known
            else {
                **container,
                "securityContext": _merge(settings, container.get("securityContext", {}), ""),
            }
            for container in spec[field]
        ]
    return secured
