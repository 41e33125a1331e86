"""Pydantic at our service: field types whose messages are meant for people, and paths like ours.

``validate`` turns every ValidationError into an InvalidSpec. A validator that raises InvalidSpec
with relative paths has them put below its field's path.

Validators are opaque to pydantic's JSON schema, so each type says what it refuses there too. Such a
schema may be wider than its validator, for lack of words, but never narrower.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from hippo.model.errors import InvalidSpec, Problems
from hippo.model.numbers import (
    LARGEST_INTEGER,
    MAX_DEPTH,
    describe,
    number_problem,
    plain,
    whole_problem,
)
from hippo.model.translations import study_field
from hippo.model.words import bare, closest, did_you_mean

M = TypeVar("M", bound=BaseModel)


class SpecModel(BaseModel):
    """Base of all that a study holds: camelCase outside, snake_case inside, frozen and strict."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("hippo", "{message}", {"message": message})


def _whole(least: int | None) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        problem = whole_problem(value, least)
        if problem is not None:
            raise _wrong(problem)
        return int(value)

    return check


def _number(value: Any) -> int | float:
    problem = number_problem(value)
    if problem is not None:
        raise _wrong(problem)
    assert isinstance(value, int | float)
    return value


def _positive(value: Any) -> int | float:
    if _number(value) <= 0:
        raise _wrong("must be greater than 0")
    return _number(value)


def _not_negative(value: Any) -> int | float:
    if _number(value) < 0:
        raise _wrong("must be at least 0")
    return _number(value)


def _share(value: Any) -> int | float:
    if not 0 <= _number(value) <= 1:
        raise _wrong("must be between 0 and 1")
    return _number(value)


def integers(least: int = -LARGEST_INTEGER, most: int = LARGEST_INTEGER) -> WithJsonSchema:
    """The JSON schema of integers within bounds."""
    return WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})


def numbers(**bounds: float) -> WithJsonSchema:
    """The JSON schema of numbers, with bounds by their keywords there."""
    return WithJsonSchema({"type": "number", **bounds})


Several = Annotated[int, BeforeValidator(_whole(2)), integers(2)]
Count = Annotated[int, BeforeValidator(_whole(1)), integers(1)]
Natural = Annotated[int, BeforeValidator(_whole(0)), integers(0)]
Integer = Annotated[int, BeforeValidator(_whole(None)), integers()]
Number = Annotated[float, BeforeValidator(_number)]
NonNegativeNumber = Annotated[float, BeforeValidator(_not_negative), numbers(minimum=0)]
Share = Annotated[float, BeforeValidator(_share), numbers(minimum=0, maximum=1)]
PositiveNumber = Annotated[float, BeforeValidator(_positive), numbers(exclusiveMinimum=0)]


_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> float:
    """The length of a duration such as ``90s``, ``10m``, ``1h30m`` or ``7d``."""
    return math.fsum(float(count) * _SECONDS[unit] for count, unit in _PART.findall(duration))


def _duration(value: Any) -> str:
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        raise _wrong(
            f'must be a duration such as "90s", "10m", "24h" or "7d", not {describe(value)}'
        )
    return value


def _positive_duration(value: str) -> str:
    if seconds(value) <= 0:
        raise _wrong("must be longer than nothing")
    return value


_DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"})

Duration = Annotated[str, BeforeValidator(_duration), _DURATION_SCHEMA]
PositiveDuration = Annotated[
    str, BeforeValidator(_duration), AfterValidator(_positive_duration), _DURATION_SCHEMA
]


def _filled(value: str) -> str:
    if not value.strip():
        raise _wrong("is empty")
    return value


Text = Annotated[str, AfterValidator(_filled), WithJsonSchema({"type": "string", "pattern": r"\S"})]


def check_json(value: Any, path: str, problems: Problems, depth: int = 0) -> None:
    """Adds what in a value is not plain, finite JSON."""
    if depth > 2 * MAX_DEPTH:
        problems.add(path, "is nested too deeply")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                check_json(item, f"{path}.{key}" if path else key, problems, depth + 1)
            else:
                problems.add(path, f"keys must be text, not {describe(key)}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_json(item, f"{path}[{index}]", problems, depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        problem = number_problem(value)
        if problem is not None:
            problems.add(path, problem)
    elif value is not None and not isinstance(value, str | bool):
        problems.add(path, f"must be plain JSON, not {describe(value)}; put it in quotes if text")


def _json_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(f"must be a mapping, not {describe(value)}")
    problems = Problems()
    check_json(value, "", problems)
    problems.raise_if_any()
    copied = plain(value)
    assert isinstance(copied, dict)
    return copied


JsonObject = Annotated[dict[str, Any], BeforeValidator(_json_object)]


def validate(model: type[M], document: object, path: str = "") -> M:
    """The model of a document. Raises InvalidSpec with paths below ``path``."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidSpec(problems_of(error, path, model)) from None


def problems_of(
    error: ValidationError, path: str = "", model: type[BaseModel] | None = None
) -> list[tuple[str, str]]:
    """What pydantic found, in our words and with our paths."""
    found: list[tuple[str, str]] = []
    for details in error.errors(include_url=False):
        if details["type"] == "invalid_key":
            name = describe(details["loc"][-1])
            found.append((_path(path, details["loc"][:-1]), f"names must be text, not {name}"))
            continue
        at = _path(path, details["loc"])
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, InvalidSpec):
            found.extend((_below(at, inner), message) for inner, message in cause.errors)
        elif details["type"] == "extra_forbidden" and model is not None:
            found.append((at, f"unknown field{_field_hint(model, details['loc'])}"))
        else:
            found.append((at, _message(details)))
    return found


def _field_hint(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Which field of the same mapping, or of another, an unknown one probably is."""
    here: type[BaseModel] | None = model
    for part in location[:-1]:
        here = dict(_fields_of(here)).get(str(part)) if here is not None else None
    name = str(location[-1])
    if here is None:
        return ""
    known = [field for field, _ in _fields_of(here)]
    meant = closest(name, known) or study_field(name, known)
    if meant is None and name.isprintable():
        above = ".".join(map(str, location[:-1]))
        places = [place for place in _places(model, bare(name), "") if place != above]
        meant = " or ".join(places) if 0 < len(places) <= 3 else None
    return f"; did you mean {meant}?" if meant is not None else ""


def _fields_of(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel] | None]]:
    """The fields of a model as they are written; with each its own model if it is a mapping."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        below = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        yield field.alias or name, below[0] if below else None


def _places(model: type[BaseModel], name: str, path: str) -> Iterator[str]:
    """Where in a document a field of that name belongs."""
    for field, below in _fields_of(model):
        place = f"{path}.{field}" if path else field
        if bare(field) == name:
            yield place
        if below is not None:
            yield from _places(below, name, place)


def _below(path: str, inner: str) -> str:
    if not path or not inner or inner[0] in ".[":
        return path + inner
    return f"{path}.{inner}"


def _path(path: str, location: tuple[int | str, ...]) -> str:
    for part in location:
        path = f"{path}[{part}]" if isinstance(part, int) else _below(path, part)
    return path


def _message(details: ErrorDetails) -> str:
    kind, value = details["type"], details["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "literal_error":
        expected = details["ctx"]["expected"].replace("'", "")
        choices = expected.replace(" or ", ", ").split(", ")
        return f"must be {expected}, not {describe(value)}{did_you_mean(value, choices)}"
    wanted = {
        "string_type": "text",
        "bool_type": "true or false",
        "model_type": "a mapping",
        "model_attributes_type": "a mapping",
        "dict_type": "a mapping",
        "list_type": "a list",
    }.get(kind)
    if wanted is None:
        return details["msg"].removeprefix("Value error, ")
    advice = "; put it in quotes" if wanted == "text" and isinstance(value, int | float) else ""
    return f"must be {wanted}, not {describe(value)}{advice}"
