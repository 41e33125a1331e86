"""Assignments with a step timeout, and runners that predate it."""

from __future__ import annotations

import json

import pytest

from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION, Assignment, Route, TrainerCall
from hippo.protocol.records import FORMAT_VERSION
from hippo.store import NewerFormat
from hippo.store.encoding import Unreadable, decode

PLAIN = Assignment(
    chain="r1-00001",
    signature="s",
    trainer=TrainerCall(entrypoint="a:B"),
    route=Route(hyperparameters={}, steps=1, stop_at=1),
)
TIMED = PLAIN.model_copy(
    update={"step_timeout_seconds": 1.5, "format_version": TIMED_ASSIGNMENT_VERSION}
)


def read(data: bytes, newest: int) -> Assignment:
    return decode(Assignment.model_validate_json, data, "the assignment", newest=newest)


def test_one_without_a_timeout_is_what_it_always_was() -> None:
    document = json.loads(PLAIN.model_dump_json())
    assert set(document) == {
        *("formatVersion", "chain", "signature", "trainer", "route", "start", "startKey"),
        *("saveEverySeconds", "pollSeconds", "lingerSeconds", "graceSeconds", "exactness"),
        *("studies", "fingerprint"),
    }
    assert document["formatVersion"] == FORMAT_VERSION
    assert "step_timeout_seconds" not in PLAIN.model_dump(by_alias=False)
    assert read(PLAIN.model_dump_json().encode(), FORMAT_VERSION) == PLAIN


@pytest.mark.parametrize("mode", ["json", "python"])
def test_one_with_a_timeout_survives_its_way(mode: str) -> None:
    data = json.dumps(TIMED.model_dump(mode=mode, by_alias=True)).encode()
    assert read(data, TIMED_ASSIGNMENT_VERSION) == TIMED


def test_a_runner_from_before_says_that_it_is_too_old() -> None:
    """Such a runner knows neither the version nor the field."""
    data = TIMED.model_dump_json().encode()
    with pytest.raises(NewerFormat):
        read(data, FORMAT_VERSION)
    unknown = json.loads(data) | {"somethingElse": 1}
    with pytest.raises(NewerFormat):
        read(json.dumps(unknown).encode(), FORMAT_VERSION)


def test_a_still_newer_one_is_refused() -> None:
    later = json.loads(TIMED.model_dump_json()) | {"formatVersion": TIMED_ASSIGNMENT_VERSION + 1}
    with pytest.raises(NewerFormat):
        read(json.dumps(later).encode(), TIMED_ASSIGNMENT_VERSION)
    never = later | {"formatVersion": 0}
    with pytest.raises(Unreadable):
        read(json.dumps(never).encode(), TIMED_ASSIGNMENT_VERSION)
