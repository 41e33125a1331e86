"""From pydantic models to structural schemas, the only ones that a cluster takes.

Structural: every node says its type, nothing is a reference, and nullable and descriptions stand
outside of anyOf and its kin. Defaults are left out on purpose: the operator knows them, and a spec
stays as it was written.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

Schema = dict[str, Any]

UNTYPED: Schema = {"x-kubernetes-preserve-unknown-fields": True}
"""Any value at all."""

_COPIED = frozenset(
    {"type", "format", "enum", "minimum", "maximum", "multipleOf", "pattern", "not"}
    | {"minLength", "maxLength", "minItems", "maxItems", "required"}
)
_DROPPED = frozenset({"title", "default", "$ref"})


def build_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, with a description for each field."""
    written = model.model_json_schema(schema_generator=_Described)
    return _structural(written, written.pop("$defs", {}))


class _Described(GenerateJsonSchema):
    """Takes the descriptions of fields from the docstrings below them."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        model = schema["cls"]
        assert issubclass(model, BaseModel)
        for name, text in field_descriptions(model).items():
            alias = model.model_fields[name].alias or name
            found["properties"][alias]["description"] = text
        return found


def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The docstring of each field that has one, by the field's name in Python."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _docstrings(base.__module__).get(base.__name__, {})
    return {name: text for name, text in found.items() if name in model.model_fields}


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """Docstrings of attributes, by class: pydantic would read them at each import."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: dict(_attributes(node)) for node in tree.body if isinstance(node, ast.ClassDef)
    }


def _attributes(node: ast.ClassDef) -> list[tuple[str, str]]:
    return [
        (field.target.id, tidy(below.value.value))
        for field, below in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    ]


def tidy(text: str) -> str:
    """A docstring as one line of plain text."""
    return " ".join(text.replace("``", "").split())


def _structural(written: Schema, definitions: Schema) -> Schema:
    """One node. Raises ValueError for what has no counterpart, rather than to leave it out."""
    if "anyOf" in written:
        written = _without_null(written)
    if "$ref" in written:
        referred = definitions[written["$ref"].rpartition("/")[2]]
        written = {**referred, **written}
    if not {"type", "enum", "const"} & written.keys():
        return {**_description(written), **UNTYPED}
    schema = _description(written)
    for key, item in written.items():
        if key in _COPIED or key.startswith("x-kubernetes-"):
            schema[key] = item
        elif key == "const":
            schema["enum"] = [item]
        elif key == "exclusiveMinimum":
            schema |= {"minimum": item, "exclusiveMinimum": True}
        elif key == "items":
            schema["items"] = _structural(item, definitions)
        elif key == "properties":
            schema["properties"] = {
                name: _structural(inner, definitions) for name, inner in item.items()
            }
        elif key == "additionalProperties":
            schema |= _additional(item, definitions)
        elif key not in _DROPPED | {"description"}:
            raise ValueError(f"no structural schema knows {key}: {written}")
    schema = _bounded_for_servers(schema)
    first = ("description", "type", "required")  # as people would write it
    return {**{key: schema[key] for key in first if key in schema}, **schema}


def _bounded_for_servers(schema: Schema) -> Schema:
    """API servers compare whole numbers with bounds as 64-bit integers. The bounds of all doubles
    overflow there, so that every whole number would be refused: ``format`` stands for them.
    """
    ends = [abs(schema[end]) for end in ("minimum", "maximum") if end in schema]
    if schema.get("type") != "number" or max(ends, default=0) < 2**63:
        return schema
    kept = {
        key: item
        for key, item in schema.items()
        if key not in ("minimum", "maximum") or abs(item) < 2**63
    }
    return {**kept, "format": "double"}


def _description(written: Schema) -> Schema:
    return {"description": tidy(written["description"])} if "description" in written else {}


def _without_null(written: Schema) -> Schema:
    """Null in place of a field is the same as its absence, to an API server too."""
    options = [option for option in written["anyOf"] if option != {"type": "null"}]
    if len(options) != 1:
        raise ValueError(f"no structural schema knows alternatives: {written}")
    rest = {key: item for key, item in written.items() if key != "anyOf"}
    return {**options[0], **rest}


def _additional(item: Any, definitions: Schema) -> Schema:
    if item is True:
        # Not UNTYPED itself: rules would take a map for equal to another in which a key is renamed.
        return {"additionalProperties": {**UNTYPED, "nullable": True}}
    if item is False:  # unknown fields are refused anyway
        return {}
    schema = _structural(item, definitions)
    if {"type": "null"} in item.get("anyOf", ()):
        schema["nullable"] = True
    return {"additionalProperties": schema}
