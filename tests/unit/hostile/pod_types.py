"""Kubernetes' own types of a pod, as its client has them: what a template's fields are held to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st
from kubernetes import client

from hippo.kube.pods.template_kinds import Fields, Kind, ListOf

POD_SPEC = "V1PodSpec"
_LIST, _MAP = re.compile(r"^List\[(.+)\]$"), re.compile(r"^Dict\[str, (.+)\]$")
_PLAIN: dict[str, tuple[type, ...]] = {
    # Quantities are text there, and may be written as numbers.
    "str": (str, int, float),
    "int": (int,),
    "bool": (bool,),
    "object": (str, int),
    "float": (int, float),
}


def fields_of(type_: str) -> dict[str, str]:
    """Types of a mapping's fields, by their names in JSON; none of a plain value."""
    model = getattr(client, type_, None) if re.match(r"^\w*V1\w+$", type_) else None
    if model is None:
        return {}
    return {model.attribute_map[name]: found for name, found in model.openapi_types.items()}


def item_of(type_: str) -> str | None:
    """The type of a list's items; None: it is no list."""
    found = _LIST.match(type_)
    return found[1] if found else None


def value_of(type_: str) -> str | None:
    """The type of a map's values; None: it is no map."""
    found = _MAP.match(type_)
    return found[1] if found else None


def misfits(value: Any, type_: str, path: str = "spec") -> Iterator[str]:
    """Where a value is not of this type. Null stands for a field that is not there."""
    if value is None:
        return
    item, inner, fields = item_of(type_), value_of(type_), fields_of(type_)
    if item is not None:
        if not isinstance(value, list):
            yield path
            return
        for index, one in enumerate(value):
            yield from misfits(one, item, f"{path}[{index}]")
    elif not (inner or fields):
        plain = _PLAIN.get(type_, ())
        if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
            yield path
    elif not isinstance(value, Mapping):
        yield path
    else:
        for name, one in value.items():
            if inner is None and name not in fields:
                yield f"{path}.{name}"
            else:
                yield from misfits(one, inner or fields[name], f"{path}.{name}")


def places(type_: str, kind: Kind | None, place: str = "spec") -> Iterator[tuple[str, str, Any]]:
    """Each field that Kubernetes has, with its type and the kind that a template may give it; what
    lies below a field of no kind is not looked at.
    """
    yield place, type_, kind
    while isinstance(kind, ListOf):
        kind, type_ = kind.item, item_of(type_) or ""
    if isinstance(kind, Fields):
        for name, inner in fields_of(type_).items():
            yield from places(inner, kind.known.get(name), f"{place}.{name}")


# -- documents of these types, sound and not -------------------------------------------------------

_TEXTS = [
    *("x", "", "/x", "..", "../../etc/hippo", "/etc/hippo", "a/../b", "$(A)", "hippo-tmp"),
    *("trainer", "Unconfined", "RuntimeDefault", "Localhost", "Bidirectional", "None", "Never"),
    *("Always", "Default", "linux", "windows", "system-node-critical", "169.254.169.254"),
    *("ALL", "SYS_ADMIN", "kernel.msgmax", "Exists", "nvidia.com/gpu", "default-scheduler"),
    *("node-role.kubernetes.io/control-plane", "spc_t", "1Gi", "TCP", "HTTP"),
]
_PLAIN_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": st.sampled_from(_TEXTS),
    "int": st.sampled_from([0, 1, -1, 80, 65532]),
    "bool": st.booleans(),
    "object": st.sampled_from([80, "http"]),
    "float": st.sampled_from([0.5]),
}
_WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [None, 1, 0, True, "true", "x", [], {}, [None], ["x"], {"x": 1}, 1.5, {"$patch": "replace"}]
)


@st.composite
def documents(draw: st.DrawFn, type_: str, depth: int = 7) -> Any:
    """A value of this type, which now and then is none."""
    if draw(st.integers(0, 30)) == 0 or depth < 0:
        return draw(_WRONG)
    item, inner, fields = item_of(type_), value_of(type_), fields_of(type_)
    if item is not None:
        return [draw(documents(item, depth - 1)) for _ in range(draw(st.integers(1, 2)))]
    if inner is not None:
        return {draw(st.sampled_from(_TEXTS)): draw(documents(inner, depth - 1))}
    if not fields:
        return draw(_PLAIN_VALUES[type_])
    chosen = set(draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)))
    # Without these nothing is ever merged.
    chosen |= {"name", "mountPath", "devicePath", "containerPort", "key", "type"} & fields.keys()
    return {name: draw(documents(fields[name], depth - 1)) for name in sorted(chosen)}
