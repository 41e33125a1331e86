"""The schema of a study's space, which the model holds as it was written.

A structural schema cannot refer to itself, nor say "a number or a mapping". So schedules within
schedules are unrolled some levels, below which anything goes; and a place that takes a plain value
or a schedule has no type: what is said of mappings there binds mappings only, what is said of
numbers binds numbers only. Whatever the schema lets pass, the operator refuses by a condition.
"""

from __future__ import annotations

from typing import Any

from hippo.kube.crds.structural_schema import UNTYPED, Schema
from hippo.model.bounds import LARGEST_INTEGER, MAX_OPTIONS, MAX_POWER
from hippo.model.sequences.schedule_reader import DOMAIN_KEYS

LEVELS = 3
"""Schedules within each other that are checked field by field."""

_NOT_TEXT = "{}, not text$."
"""A pattern that no text matches (nothing follows its end), worded for the error that quotes it."""

_SCHEDULES: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "step": (
        "initial * gamma^floor(t / every).",
        {
            "initial": ("number", "Value from the beginning."),
            "gamma": ("number", "Factor, every so many steps."),
            "every": ("count", "Steps from factor to factor."),
        },
    ),
    "multistep": (
        "initial * gamma^(number of milestones <= t).",
        {
            "initial": ("number", "Value from the beginning."),
            "gamma": ("number", "Factor at each milestone."),
            "milestones": ("milestones", "Ascending steps, counted from where it begins."),
        },
    ),
    "exponential": (
        "initial * gamma^t.",
        {
            "initial": ("number", "Value at the beginning."),
            "gamma": ("number", "Factor at each step."),
        },
    ),
    "linear": (
        "From initial to final in a straight line over steps, then final.",
        {
            "initial": ("number", "Value at the beginning."),
            "final": ("number", "Value in the end."),
            "steps": ("count", "Steps on the way."),
        },
    ),
    "cosine": (
        "From initial to final in half a cosine over steps, then final.",
        {
            "initial": ("number", "Value at the beginning."),
            "final": ("number", "Value in the end."),
            "steps": ("count", "Steps on the way."),
        },
    ),
    "polynomial": (
        "final + (initial - final) * (1 - t / steps)^power below steps, then final.",
        {
            "initial": ("number", "Value at the beginning."),
            "final": ("number", "Value in the end."),
            "steps": ("count", "Steps on the way."),
            "power": ("power", "The exponent."),
        },
    ),
    "cyclic": (
        "A triangle wave: from low to high in up steps, back in down steps, repeated.",
        {
            "low": ("number", "Value at the beginning."),
            "high": ("number", "Value at the top."),
            "up": ("count", "Steps from low to high."),
            "down": ("count", "Steps from high to low."),
        },
    ),
    "warmup": (
        "A straight line between the values from and to over steps, then what then says.",
        {
            "from": ("number", "Value at the beginning."),
            "steps": ("count", "Steps on the way."),
            "to": ("number", "Where the line leads."),
            "then": ("node", "Value or schedule after it; steps count from there."),
        },
    ),
}
_PIECEWISE = "Entries [from step, value or schedule], the first from 0; each counts its own steps."

_LOW, _HIGH = {"description": "The least value."}, {"description": "The greatest value."}
_WHOLE = {"type": "integer", "minimum": -LARGEST_INTEGER, "maximum": LARGEST_INTEGER}
_REAL = {"type": "number", "format": "double"}
_LOG = {"description": "Draw on a logarithmic scale.", "type": "boolean"}

_UNIFORM: Schema = {
    "description": "A number from low to high: continuous.",
    "type": "object",
    "required": ["low", "high"],
    "properties": {
        "low": {**_LOW, **_REAL},
        "high": {**_HIGH, **_REAL},
        "log": _LOG,
    },
}
_INT: Schema = {
    "description": "An integer: low, low + step, and so on up to high.",
    "type": "object",
    "required": ["low", "high"],
    "properties": {
        "low": {**_LOW, **_WHOLE},
        "high": {**_HIGH, **_WHOLE},
        "step": {
            "description": "From one value to the next. Defaults to 1.",
            **_WHOLE,
            "minimum": 1,
        },
        "log": _LOG,
    },
}
_RANGE_RULES = [
    {"rule": "self.low < self.high", "message": "low must be less than high", "fieldPath": ".low"},
    {
        "rule": "!has(self.log) || !self.log || double(self.low) > 0.0",
        "message": "low must be greater than 0, because log is true",
        "fieldPath": ".low",
    },
]


def space_schema() -> Schema:
    """Of ``spec.space`` in a Study."""
    return {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "description": "A domain: choices, uniform, or int.",
            "type": "object",
            "oneOf": _one_of(DOMAIN_KEYS),
            "properties": {
                "choices": _choices(_node(LEVELS)),
                "uniform": {**_UNIFORM, "x-kubernetes-validations": _RANGE_RULES},
                "int": {**_INT, "x-kubernetes-validations": _RANGE_RULES},
                "static": {
                    "description": "No schedules for this hyper-parameter.",
                    "type": "boolean",
                },
            },
        },
    }


def _choices(items: Schema) -> Schema:
    return {
        "description": "One of these.",
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_OPTIONS,
        "items": items,
    }


def _one_of(names: Any) -> list[Schema]:
    return [{"required": [name]} for name in sorted(names)]


def _mapping(properties: Schema) -> Schema:
    """Anything, but in a mapping exactly one of these."""
    return {
        **UNTYPED,
        "minProperties": 1,
        "maxProperties": 1,
        "anyOf": _one_of(properties),
        "properties": properties,
    }


def _node(levels: int) -> Schema:
    """Where a plain value, a schedule, or a domain may stand."""
    if levels == 0:
        return {"description": "A value or a schedule.", **UNTYPED}
    below = _node(levels - 1)
    properties: Schema = {
        name: {
            "description": text,
            "type": "object",
            "required": list(fields),
            "properties": {
                field: {"description": about, **_field(kind, levels, below)}
                for field, (kind, about) in fields.items()
            },
        }
        for name, (text, fields) in _SCHEDULES.items()
    }
    properties["piecewise"] = {
        "description": _PIECEWISE,
        "type": "array",
        "minItems": 1,
        "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": below},
    }
    properties |= {"choices": _choices(UNTYPED), "uniform": _UNIFORM, "int": _INT}
    return {"description": "A value, or one schedule.", **_mapping(properties)}


_FIELDS: dict[str, Schema] = {
    "number": {"pattern": _NOT_TEXT.format("a number")},
    "count": {
        "pattern": _NOT_TEXT.format("an integer"),
        "multipleOf": 1,
        "minimum": 1,
        "maximum": LARGEST_INTEGER,
    },
    "power": {
        "pattern": _NOT_TEXT.format("an integer"),
        "multipleOf": 1,
        "minimum": 1,
        "maximum": MAX_POWER,
    },
    "milestones": {
        "pattern": _NOT_TEXT.format("a list"),
        "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_INTEGER},
    },
}
_FIELD_DOMAINS: dict[str, Schema] = {
    "number": {"uniform": _UNIFORM, "int": _INT},
    "count": {"int": _INT},
    "power": {"int": _INT},
    "milestones": {},
}


def _field(kind: str, levels: int, below: Schema) -> Schema:
    """Of a schedule: a value, or a domain of such values, which is looked into on top only."""
    if kind == "node":
        return {key: item for key, item in below.items() if key != "description"}
    if levels < LEVELS:
        return {**_FIELDS[kind], **UNTYPED}
    return {**_FIELDS[kind], **_mapping({"choices": _choices(UNTYPED), **_FIELD_DOMAINS[kind]})}
