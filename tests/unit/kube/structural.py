"""What an API server does with a structural schema, as far as ours go: its rules, and validation.

Small on purpose: no CEL, which only a real server runs (tests/e2e/test_crds.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

ANYTHING = "x-kubernetes-preserve-unknown-fields"
RULES = "x-kubernetes-validations"
_KNOWN = {
    *("type", "description", "enum", "format", "minimum", "exclusiveMinimum", "maximum"),
    *("multipleOf", "pattern", "maxLength", "minItems", "maxItems", "minProperties"),
    *("maxProperties", "required", "properties", "additionalProperties", "items", "nullable"),
    *("anyOf", "oneOf", ANYTHING, RULES, "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "integer": (int, float),
}


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """All nodes of a schema, with their paths."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for keyword, place in (("items", "[]"), ("additionalProperties", ".*")):
        if keyword in schema:
            yield from nodes(schema[keyword], path + place)


def structure_problems(schema: Schema) -> list[str]:
    """Why a server would not take it as structural; or what this module does not know."""
    found = []
    for path, node in nodes(schema):
        if unknown := node.keys() - _KNOWN:
            found.append(f"{path}: {sorted(unknown)}")
        if "type" not in node and not node.get(ANYTHING):
            found.append(f"{path}: has no type")
        if "properties" in node and "additionalProperties" in node:
            found.append(f"{path}: properties beside additionalProperties")
        known = set(node.get("properties", {}))
        for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            if option.keys() != {"required"} or not set(option["required"]) <= known:
                found += [f"{path}: {option} among alternatives"]
        if not set(node.get("required", ())) <= known:
            found.append(f"{path}: requires what it does not know")
    return found


def refusals(schema: Schema, value: Any, path: str = "") -> list[str]:
    """Why a server would refuse a value, strict about unknown fields."""
    kind = schema.get("type")
    if value is None:
        ok = kind is None or schema.get("nullable")
        return [] if ok else [f"{path}: null"]
    if kind is not None and not _is(value, kind):
        return [f"{path}: must be of type {kind}"]
    found = [f"{path}: not in {schema['enum']}"] if value not in schema.get("enum", [value]) else []
    if isinstance(value, dict):
        return found + _mapping_refusals(schema, value, path)
    if isinstance(value, list):
        found += _bounds(len(value), schema.get("minItems"), schema.get("maxItems"), path)
        for index, item in enumerate(value):
            found += refusals(schema.get("items", {ANYTHING: True}), item, f"{path}[{index}]")
    elif isinstance(value, str):
        found += _bounds(len(value), None, schema.get("maxLength"), path)
        if re.search(schema.get("pattern", ""), value) is None:
            found.append(f"{path}: does not match {schema['pattern']}")
    elif not isinstance(value, bool):
        found += _bounds(value, schema.get("minimum"), schema.get("maximum"), path)
        if schema.get("exclusiveMinimum") and value == schema["minimum"]:
            found.append(f"{path}: {value}")
        if "multipleOf" in schema and value % schema["multipleOf"]:
            found.append(f"{path}: {value} is no multiple")
    return found


def _mapping_refusals(schema: Schema, value: dict[str, Any], path: str) -> list[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    # Null in place of a field is no field.
    value = {
        key: item
        for key, item in value.items()
        if item is not None or schema.get(ANYTHING) or known.get(key, others).get("nullable")
    }
    found = _bounds(len(value), schema.get("minProperties"), schema.get("maxProperties"), path)
    found += [f"{path}.{key}: is missing" for key in schema.get("required", ()) if key not in value]
    for keyword, most in (("anyOf", len(value)), ("oneOf", 1)):
        fitting = sum(set(o["required"]) <= value.keys() for o in schema.get(keyword, ()))
        if keyword in schema and not 1 <= fitting <= most:
            found.append(f"{path}: {keyword}")
    for key, item in value.items():
        if key in known or others is not None:
            found += refusals(known.get(key, others), item, f"{path}.{key}")
        elif not schema.get(ANYTHING):
            found.append(f"{path}.{key}: unknown field")
    return found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _bounds(value: float, least: float | None, most: float | None, path: str) -> list[str]:
    if (least is not None and value < least) or (most is not None and value > most):
        return [f"{path}: {value} is not within {least}..{most}"]
    return []
