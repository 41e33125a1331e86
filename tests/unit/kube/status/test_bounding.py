"""Whatever users, trainers and servers write: objects that an API server takes, and harmless."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.kube.controller.admission import read_retry
from hippo.kube.resources import dump
from hippo.kube.status.bounding import (
    MAX_CHAINS,
    MAX_CHANGES_BYTES,
    MAX_CONDITIONS,
    MAX_EVENT_BYTES,
    MAX_MAP_BYTES,
    MAX_PLAN_STATUS_BYTES,
    MAX_STATUS_BYTES,
    MAX_TEXT,
    MAX_WORD,
    bound_message,
    bound_status,
)
from hippo.kube.status.builder import MOST_STAGES, MOST_STUDIES
from hippo.kube.status.models import (
    BestTrial,
    ChainRecord,
    Condition,
    SearchPlanStatus,
    StudyStatus,
    TreeStage,
    TrialStatus,
)
from hippo.kube.status.stage_tree import MOST_ENTRIES
from tests.foreign import HOSTILE, find_harm, hostile_texts

ETCD_BYTES = 1_500_000
LONG = HOSTILE * 5_000
"""Of a megabyte."""

short = st.one_of(hostile_texts, st.sampled_from([HOSTILE, '"' * 999, "𝕏" * 999, ""]))
texts = st.one_of(short, st.just(LONG))
names = st.one_of(st.text(max_size=30), hostile_texts)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(short, st.integers(), st.booleans(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(names, inner, max_size=5)),
    max_leaves=8,
)


@st.composite
def many(draw: st.DrawFn, entries: st.SearchStrategy[Any], most: int = 45_000) -> dict[str, Any]:
    """A map that is small, or has thousands of entries."""
    found: dict[str, Any] = draw(st.dictionaries(names, entries, max_size=4))
    count = draw(st.sampled_from([0, most]))
    value, width = draw(entries), draw(st.integers(1, 300))
    return found | {f"{n:0{width}}": value for n in range(count)}


metrics = many(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)))
conditions = st.lists(
    st.builds(
        Condition,
        type=texts,
        status=st.just("True"),
        reason=texts,
        message=texts,
        last_transition_time=st.just("1970-01-01T00:00:00Z"),
    ),
    max_size=3,
).map(lambda found: found * 20)
bests = st.builds(
    BestTrial, trial=texts, step=st.integers(0, 10**12), hyperparameters=many(values),
    metrics=metrics,
)  # fmt: skip
studies = st.builds(StudyStatus, message=texts, plan=texts, best=bests, conditions=conditions)
trials = st.builds(
    TrialStatus, metrics=metrics, reason=texts, stages=st.just(["0-1000000000000"] * MOST_STAGES)
)
stages = st.builds(
    TreeStage,
    steps=st.just("0-1000000000000"),
    state=st.just("Pending"),
    trials=st.integers(0, 10**6),
    changes=many(values, 1000),
    depth=st.integers(0, 100),
    chain=texts,
)
plans = st.builds(
    SearchPlanStatus,
    studies=st.just(["s" * 52] * MOST_STUDIES),
    chains=st.just([ChainRecord(name="r1000000-00000001", study="s" * 52)] * 2 * MAX_CHAINS),
    fingerprint=st.just({str(n): "x" * 512 for n in range(64)}),
    tree=stages.map(lambda stage: [stage] * MOST_ENTRIES),
    conditions=conditions,
)


def size(document: Any) -> int:
    return len(json.dumps(document, ensure_ascii=False).encode())


def check(document: Any, key: str = "") -> None:
    """Every text within its own bound, and harmless."""
    match document:
        case str():
            assert len(document.encode()) <= (MAX_TEXT if key in ("message", "reason") else 512)
            assert find_harm(document) == []
        case dict():
            for name, value in document.items():
                assert len(name.encode()) <= MAX_WORD
                assert find_harm(name) == []
                check(value, name)
        case list():
            for item in document:
                check(item)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.one_of(studies, trials))
def test_a_study_or_trial_takes_what_others_wrote(status: StudyStatus | TrialStatus) -> None:
    document = dump(status)
    assert size(document) <= MAX_STATUS_BYTES
    assert len(json.dumps(document)) < ETCD_BYTES
    check(document)
    assert bound_status(document) == document
    assert type(status).model_validate(document)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(plans)
def test_a_plan_takes_what_others_wrote(status: SearchPlanStatus) -> None:
    document = dump(status)
    assert size(document) <= MAX_PLAN_STATUS_BYTES < ETCD_BYTES
    check(document)
    assert bound_status(document) == document
    assert SearchPlanStatus.model_validate(document).chains == status.chains
    assert all(size(stage["changes"]) <= MAX_CHANGES_BYTES for stage in document["tree"])


@settings(deadline=None)
@given(texts)
def test_an_event_is_one_that_servers_take(text: str) -> None:
    message = bound_message(text, MAX_EVENT_BYTES)
    assert len(message.encode()) <= MAX_EVENT_BYTES
    assert find_harm(message) == []


def test_what_is_left_out_is_said() -> None:
    many = {f"layer.{n}": 0.5 for n in range(45_000)}
    best = BestTrial(trial="a-0", step=4, hyperparameters=dict(many), metrics={"acc": 0.9, **many})
    found = dump(StudyStatus(best=best))["best"]
    assert found["metrics"]["acc"] == 0.9
    assert found["metricsCount"] == 45_001
    shown = len(found["hyperparameters"]) - 1
    assert found["hyperparameters"]["..."] == f"{45_000 - shown} more"
    assert 1000 < shown < 2500
    assert size(found["hyperparameters"]) <= MAX_MAP_BYTES


def test_a_long_schedule_is_not_shown() -> None:
    pieces = {"piecewise": [[n, n / 7] for n in range(10_000)]}
    best = BestTrial(trial="a-0", step=4, hyperparameters={"lr": pieces, "wd": 0.1})
    found = dump(StudyStatus(best=best))["best"]["hyperparameters"]
    assert found["wd"] == 0.1
    assert found["lr"].startswith("too long to be shown: ")


def test_small_statuses_are_written_as_they_are() -> None:
    best = BestTrial(
        trial="a-0",
        step=4,
        hyperparameters={"lr": {"piecewise": [[0, 0.1], [4, 0.01]]}, "act": "[relu, tanh]"},
        metrics={"acc": 0.9, "Güte ✓": None},
    )
    status = StudyStatus(phase="Running", message="it goes on", best=best)
    assert dump(status) == status.model_dump(mode="json", exclude_none=True)


def test_hippos_own_conditions_stay() -> None:
    def build(type_: str) -> Condition:
        return Condition.model_validate(
            {"type": type_, "status": "True", "reason": "R", "lastTransitionTime": "t"}
        )

    found = [build(f"Other{n}") for n in range(1000)] + [build("Accepted"), build("Failed")]
    kept = [item["type"] for item in dump(StudyStatus(conditions=found))["conditions"]]
    assert kept[:3] == ["Accepted", "Failed", "Other0"]
    assert len(kept) == MAX_CONDITIONS


@pytest.mark.parametrize("retried", ["1", "2026-11-30 \x1b[31m\u202e", HOSTILE])
def test_a_wish_is_told_as_it_is_compared(retried: str) -> None:
    retry = read_retry({"annotations": {"hippo.dev/retry-failed": retried}})
    assert retry is not None
    assert len(retry.encode()) <= 63
    assert dump(StudyStatus(retried=retry))["retried"] == retry
