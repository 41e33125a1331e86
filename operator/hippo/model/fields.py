"""Field types for pydantic, with messages for people and paths as they appear in a document.

``validate`` turns every ValidationError into an InvalidSpec. If a validator raises InvalidSpec with
relative paths, they are placed below the path of its field.

Validators are opaque to pydantic's JSON schema, so each type also supplies a schema. A schema may
be wider than its validator where JSON schema cannot express a rule, but never narrower. Every
number has a minimum and a maximum (``bounds``): a test walks all fields and fails if one has not.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from hippo.model.bounds import (
    LARGEST_INTEGER,
    LARGEST_NUMBER,
    MAX_DAYS,
    MAX_DEPTH,
    MAX_DURATION_CHARACTERS,
    MAX_INDEX,
    MAX_LABEL,
    MAX_PROBLEMS,
    MAX_STEPS,
    MAX_TRIALS,
)
from hippo.model.errors import InvalidSpec, Problems
from hippo.model.sequences.numbers import describe, number_problem, plain, shorten, whole_problem
from hippo.model.translations import study_field
from hippo.model.words import bare, closest, did_you_mean

M = TypeVar("M", bound=BaseModel)


class SpecModel(BaseModel):
    """Base of all parts of a study: camelCase outside, snake_case in Python, frozen, strict."""

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


class _Checked(ABC):
    """Metadata of a field's type, as in ``Annotated[int, Whole(1, 9)]``.

    Validates before pydantic does, with Hippo's messages.
    """

    __slots__ = ()

    @abstractmethod
    def check(self, value: Any) -> Any:
        """Returns the value to store. Raises PydanticCustomError."""

    @abstractmethod
    def schema(self) -> JsonSchemaValue:
        """Returns the JSON schema of valid values."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return self.schema()


@dataclass(frozen=True, slots=True)
class Whole(_Checked):
    """Integers within bounds, in the model and in the CRD: ``Annotated[int, Whole(1, 9)]``."""

    least: int
    most: int

    def check(self, value: Any) -> int:
        problem = whole_problem(value, self.least, self.most)
        if problem is not None:
            raise _wrong(problem)
        return int(value)

    def schema(self) -> JsonSchemaValue:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Real(_Checked):
    """Numbers within bounds; with ``above``, ``least`` itself is excluded."""

    least: float = -LARGEST_NUMBER
    most: float = LARGEST_NUMBER
    above: bool = False

    def check(self, value: Any) -> int | float:
        problem = number_problem(value) or self._problem(value)
        if problem is not None:
            raise _wrong(problem)
        assert isinstance(value, int | float)
        return value

    def _problem(self, value: int | float) -> str | None:
        if self.above and value <= self.least:
            return f"must be greater than {self.least:.15g}"
        if value < self.least:
            return f"must be at least {self.least:.15g}"
        return f"must be at most {self.most:.15g}" if value > self.most else None

    def schema(self) -> JsonSchemaValue:
        least = "exclusiveMinimum" if self.above else "minimum"
        return {"type": "number", least: self.least, "maximum": self.most}


_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+", re.ASCII)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""Seconds per unit of a duration."""


def seconds(duration: str) -> float:
    """Returns the length in seconds of a duration such as ``90s``, ``10m``, ``1h30m`` or ``7d``."""
    return math.fsum(float(count) * SECONDS[unit] for count, unit in _PART.findall(duration))


@dataclass(frozen=True, slots=True)
class Span(_Checked):
    """Durations of at most MAX_DAYS; with ``positive``, longer than zero."""

    positive: bool = False

    def check(self, value: Any) -> str:
        if (
            not isinstance(value, str)
            or len(value) > MAX_DURATION_CHARACTERS
            or _DURATION.fullmatch(value) is None
        ):
            raise _wrong(
                f'must be a duration such as "90s", "10m", "24h" or "7d", not {describe(value)}'
            )
        length = seconds(value)
        if length > MAX_DAYS * SECONDS["d"]:
            raise _wrong(f"must be at most {MAX_DAYS}d, not {shorten(value)}")
        if self.positive and length <= 0:
            raise _wrong("must be longer than nothing")
        return value

    def schema(self) -> JsonSchemaValue:
        return {
            "type": "string",
            "maxLength": MAX_DURATION_CHARACTERS,
            "pattern": f"^{_DURATION.pattern}$",
        }


Integer = Annotated[int, Whole(-LARGEST_INTEGER, LARGEST_INTEGER)]
"""An integer that a double represents exactly, such as a seed."""
StepCount = Annotated[int, Whole(1, MAX_STEPS)]
TrialCount = Annotated[int, Whole(1, MAX_TRIALS)]
Index = Annotated[int, Whole(0, MAX_INDEX)]
Number = Annotated[float, Real()]
Share = Annotated[float, Real(0, 1)]
Duration = Annotated[str, Span()]
PositiveDuration = Annotated[str, Span(positive=True)]


def _filled(value: str) -> str:
    if not value.strip():
        raise _wrong("is empty")
    return value


Text = Annotated[str, AfterValidator(_filled), WithJsonSchema({"type": "string", "pattern": r"\S"})]


def check_length(value: str) -> str:
    """Returns the text if it is no longer than MAX_LABEL. Raises PydanticCustomError."""
    if len(value) > MAX_LABEL:
        raise _wrong(f"must have at most {MAX_LABEL:,} characters, not {len(value):,}")
    return value


Label = Annotated[
    str,
    AfterValidator(check_length),
    AfterValidator(_filled),
    WithJsonSchema({"type": "string", "maxLength": MAX_LABEL, "pattern": r"\S"}),
]
"""A non-empty name of at most MAX_LABEL characters."""


def check_json(value: Any, path: str, problems: Problems, depth: int = 0) -> None:
    """Adds a problem for each part of a value that is not plain, finite JSON."""
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
    """Parses a document. Raises InvalidSpec with paths below ``path``."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidSpec(problems_of(error, path, model)) from None


def problems_of(
    error: ValidationError, path: str = "", model: type[BaseModel] | None = None
) -> list[tuple[str, str]]:
    """Translates pydantic's errors into (path, message) pairs, with Hippo's wording and paths."""
    found: list[tuple[str, str]] = []
    for details in error.errors(include_url=False)[:MAX_PROBLEMS]:
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
    """Returns a hint at the known field, here or elsewhere, that an unknown one probably means."""
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
    """Yields the fields of a model by alias, with the nested model of each mapping."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        below = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        yield field.alias or name, below[0] if below else None


def _places(model: type[BaseModel], name: str, path: str) -> Iterator[str]:
    """Yields the paths at which a document may have a field of that name."""
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
    if kind == "too_short":
        return "is empty; give at least one"
    if kind == "too_long":
        return f"must have at most {details['ctx']['max_length']} entries"
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
