"""Every field of every kind of record is bounded."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
from pydantic import AfterValidator, BaseModel, StringConstraints, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

import hippo.store.lock
import hippo.store.mailbox
from hippo.model.bounds import MAX_INDEX, MAX_STEPS
from hippo.model.foreign import MAX_LINE, MAX_METRIC_NAME, MAX_METRICS
from hippo.protocol.decisions import Decision
from hippo.protocol.fields import LATEST, MAX_TEXT, TREE_DEPTH, TREE_NODES, check_tree
from hippo.protocol.records import Record
from hippo.protocol.reports import MetricsReported, WorkerError
from hippo.store.bounds import MAX_BYTES, Kind
from hippo.store.encoding import StudyShape
from hippo.store.layout import Layout, number_of
from tests.unit.hostile.values import deep
from tests.unit.store.builders import KEY


def all_models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from all_models(model)


RECORDS: list[type[BaseModel]] = [*dict.fromkeys(all_models(Record)), StudyShape]


def constraints(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from constraints(tuple(item.metadata))
        else:
            yield item


def unbounded(type_: Any, path: str, metadata: tuple[Any, ...] = ()) -> Iterator[str]:
    """Yields the paths of all unbounded values within a type."""
    found = list(constraints(metadata))
    origin, inner = get_origin(type_), get_args(type_)
    if origin is Annotated:
        yield from unbounded(inner[0], path, (*metadata, *inner[1:]))
    elif origin in (Union, types.UnionType):
        for choice in inner:
            yield from unbounded(choice, path, metadata)
    elif (
        origin is Literal
        or type_ in (bool, type(None))
        or any(isinstance(item, AfterValidator) and item.func is check_tree for item in found)
    ):
        return
    elif origin in (dict, list, tuple):
        if not any(isinstance(item, annotated_types.MaxLen) for item in found):
            yield f"{path}: a {origin.__name__} of any length"
        for part in (item for item in inner if item is not Ellipsis):
            yield from unbounded(part, f"{path}[]")
    elif isinstance(type_, type) and issubclass(type_, BaseModel):
        for name, field in type_.model_fields.items():
            yield from unbounded(field.annotation, f"{path}.{name}", tuple(field.metadata))
    elif isinstance(type_, type) and issubclass(type_, Enum):
        return
    elif type_ is str:
        limits = [item.max_length for item in found if isinstance(item, StringConstraints)]
        if not any(limits):
            yield f"{path}: a string of any length"
    elif type_ in (int, float):
        most = [item.le for item in found if isinstance(item, annotated_types.Le)]
        least = [item.ge for item in found if isinstance(item, annotated_types.Ge)]
        is_measure = any(getattr(item, "allow_inf_nan", None) is True for item in found)
        ends = [float(str(end)) for end in (*most, *least)]
        if not is_measure and not (most and least and all(map(math.isfinite, ends))):
            yield f"{path}: a number of any size"
    else:
        yield f"{path}: {type_} is not known to be bounded"


@pytest.mark.parametrize("model", RECORDS, ids=lambda model: model.__name__)
def test_every_field_has_bounds(model: type[BaseModel]) -> None:
    assert list(unbounded(model, model.__name__)) == []


def test_a_field_without_bounds_is_found() -> None:
    class Loose(BaseModel):
        number: int
        share: Annotated[float, annotated_types.Ge(0)]
        text: str | None = None
        names: list[Annotated[str, StringConstraints(max_length=3)]] = []
        config: dict[str, Any] = {}

    assert [line.partition(":")[0] for line in unbounded(Loose, "Loose")] == [
        "Loose.number",
        "Loose.share",
        "Loose.text",
        "Loose.names",
        "Loose.config",
        "Loose.config[]",
        "Loose.config[]",
    ]


def test_every_kind_has_a_greatest_size() -> None:
    assert MAX_BYTES.keys() == set(Kind)


@pytest.mark.parametrize("number", [0, 7, 999_999, 1_000_000, MAX_INDEX])
def test_what_a_plan_writes_is_known_by_its_name(number: int) -> None:
    layout = Layout("team/0123456789abcdef")
    mailbox = layout.requests_of("s") + f"{number:06d}.json"
    for name, kind in {
        layout.plan: Kind.PLAN,
        layout.spending: Kind.SPENDING,
        layout.manifest(KEY): Kind.MANIFEST,
        layout.control("r1-00001"): Kind.CONTROL,
        layout.study("s"): Kind.STUDY,
    }.items():
        assert layout.kind_of(name) is kind
    for name, kind in {
        layout.report("r1-00001", number): Kind.REPORT,
        layout.decision("s", number): Kind.DECISION,
        layout.ledger_chunk(number): Kind.LEDGER,
        mailbox: Kind.REQUEST,
    }.items():
        assert (layout.kind_of(name), number_of(name)) == (kind, number)
    assert layout.kind_of(layout.lock(number)) is Kind.LOCK
    assert layout.generation_of(layout.lock(number)) == number
    assert layout.kind_of(layout.data_of(KEY) + "0" * 64) is None


@pytest.mark.parametrize(
    "name", ["1", "00001", "0000001", "1" * 10, "9" * 195, "-00001", "+00001", "1e0000", "٠٠٠٠٠١"]
)
def test_a_number_is_written_in_one_way(name: str) -> None:
    assert number_of("a/000001.json") == 1
    assert number_of(f"a/{name}.json") is None
    assert number_of("a/000001") is None
    assert number_of("a/000001.txt.json") is None


def decision(**fields: Any) -> Decision:
    return Decision.model_validate(
        {
            "index": 0,
            "kind": "suggest",
            "trial": 0,
            "steps": 10,
            "hyperparameters": {"lr": 0.1},
            "reason": "r",
            **fields,
        }
    )


def test_what_the_largest_studies_write_is_within_them() -> None:
    piece = {"from": 10**11, "linear": {"initial": 0.1, "final": 1e-9}}
    written = {"lr": {"piecewise": [piece] * 10_000}}
    found = decision(steps=MAX_STEPS, trial=MAX_INDEX, hyperparameters=written)
    assert len(found.model_dump_json()) < MAX_BYTES[Kind.DECISION]
    report = MetricsReported(
        chain="r1-00001",
        sequence_number=9_999,
        step=MAX_STEPS,
        key=KEY,
        metrics={f"{n:0{MAX_METRIC_NAME}d}": -1.2345678901234567e-300 for n in range(MAX_METRICS)},
        evaluate_seconds=1.0,
    )
    assert len(report.model_dump_json()) < MAX_BYTES[Kind.REPORT]


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": -1},
        {"steps": MAX_STEPS + 1},
        {"steps": "7"},
        {"steps": 7.0},
        {"steps": True},
        {"index": MAX_INDEX + 1},
        {"trial": 10**400},
        {"hyperparameters": None},
        {"hyperparameters": {"lr": math.nan}},
        {"hyperparameters": {"lr": [math.inf]}},
        {"hyperparameters": {"lr": 10**400}},
        {"hyperparameters": {"lr": deep(TREE_DEPTH)}},
        {"hyperparameters": {"lr": [0] * (TREE_NODES + 1)}},
        {"reason": ""},
    ],
    ids=lambda fields: f"{fields}"[:40],
)
def test_beyond_them_nothing_is_read(fields: dict[str, Any]) -> None:
    assert decision().steps == 10
    with pytest.raises(ValidationError):
        decision(**fields)


def test_words_are_cut_off_rather_than_lost() -> None:
    error = WorkerError(during="step", message="word " * MAX_TEXT, step=1)
    assert 0.9 * MAX_LINE < len(error.message) <= MAX_LINE
    assert error.message.startswith("word word")
    assert " ... (" in error.message


@pytest.mark.parametrize("at", [math.nan, math.inf, -1.0, LATEST * 2, 1e300])
def test_moments_are_finite(at: float) -> None:
    lock = TypeAdapter(hippo.store.lock._LockRecord)
    fields = {"host": "h", "boot": "", "pid": 1, "processStart": "", "command": "c", "expires": 0}
    assert lock.validate_python({**fields, "acquired": 1.0}).acquired == 1.0
    with pytest.raises(ValidationError):
        lock.validate_python({**fields, "acquired": at})
