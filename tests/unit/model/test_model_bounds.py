"""Every number of a model and of a CRD has a least and a greatest value, and models keep them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import hippo.model
from hippo.kube.crds.definitions import build_crds
from hippo.kube.resources import StatusModel
from hippo.model.bounds import MAX_DAYS
from hippo.model.fields import Duration, PositiveDuration, SpecModel, seconds

for found in pkgutil.walk_packages(hippo.model.__path__, "hippo.model."):
    importlib.import_module(found.name)  # so that no model is missed


def _descendants(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from _descendants(child)


MODELS = sorted({*_descendants(SpecModel), *_descendants(StatusModel)}, key=lambda m: m.__name__)


def _numbers(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Returns all numeric nodes of a JSON schema, with their paths."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield path, schema
        for key, inner in schema.items():
            yield from _numbers(inner, f"{path}.{key}")
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from _numbers(inner, f"{path}[{index}]")


def _unbounded(schema: Any) -> list[str]:
    return [
        path
        for path, node in _numbers(schema)
        if "maximum" not in node or not {"minimum", "exclusiveMinimum"} & node.keys()
    ]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_number_of_a_model_is_bounded(model: type[BaseModel]) -> None:
    assert _unbounded(model.model_json_schema()) == []


def test_what_has_no_bound_is_found() -> None:
    """Ensures that the two walks do not pass by finding nothing."""

    class Loose(SpecModel):
        count: int
        share: float | None = None
        counts: list[int] = []  # noqa: RUF012

    assert len(_unbounded(Loose.model_json_schema())) == 3
    assert len(MODELS) > 25


@pytest.mark.parametrize("crd", build_crds(), ids=lambda crd: crd["spec"]["names"]["kind"])
def test_every_number_of_a_crd_is_bounded(crd: dict[str, Any]) -> None:
    (version,) = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    assert len(list(_numbers(schema))) > 5
    doubles = {path for path, node in _numbers(schema) if node.get("format") == "double"}
    assert set(_unbounded(schema)) <= doubles  # all finite ones: JSON has no others
    for path, node in _numbers(schema):
        assert path not in doubles or node["type"] == "number"
        for end in ("minimum", "maximum"):  # API servers compare as 64-bit integers
            assert abs(node.get(end, 0)) < 2**63, path


def _fields() -> Iterator[Any]:
    for model in MODELS:
        if issubclass(model, SpecModel):
            for name, field in model.model_fields.items():
                kind: Any = field.annotation
                for mark in reversed(field.metadata):
                    kind = Annotated[kind, mark]
                adapter = TypeAdapter(kind)
                numbers = dict(_numbers(adapter.json_schema()))
                for path, node in numbers.items():
                    if path in ("", ".anyOf[0]"):  # the field itself, or it or null
                        yield pytest.param(adapter, node, id=f"{model.__name__}.{name}")


@pytest.mark.parametrize(("adapter", "node"), list(_fields()))
def test_a_model_keeps_the_bounds_of_its_schema(adapter: Any, node: dict[str, Any]) -> None:
    whole = node["type"] == "integer"
    least = node.get("minimum", node.get("exclusiveMinimum"))
    most = node["maximum"]
    assert adapter.validate_python(most) == most
    beyond = [most + 1, 10**30] if whole else [most * 2, float("inf")]
    beyond += [least - 1, -(10**30)] if whole else [-1e308 * 10, float("nan")]
    if "exclusiveMinimum" in node:
        beyond.append(least)
    else:
        assert adapter.validate_python(least) == least
    for value in beyond:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_durations_are_bounded() -> None:
    for kind in (Duration, PositiveDuration):
        adapter: TypeAdapter[str] = TypeAdapter(kind)
        assert adapter.validate_python(f"{MAX_DAYS}d") == f"{MAX_DAYS}d"
        for wrong in (f"{MAX_DAYS}d1s", "9" * 400 + "s", "1d" * 40, "٣s", "1e3s", "-1s", "", 5):
            with pytest.raises(ValidationError):
                adapter.validate_python(wrong)
    assert seconds(f"{MAX_DAYS}d") == MAX_DAYS * 86400
    with pytest.raises(ValidationError):
        TypeAdapter(PositiveDuration).validate_python("0s")
