"""The retention policy, which keeps everything in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.gc import Intent, Scope, read_intent
from tests.world import build_study

DAY = 86_400.0


def document(
    *, state: str | None = None, deleted: float | None = None, **checkpoints: Any
) -> dict[str, Any]:
    study = build_study("s", space={"lr": {"choices": [0.1]}}, checkpoints=checkpoints)
    status = {"bestKey": "best"} | ({"state": state} if state else {})
    written: dict[str, Any] = {
        "study": study.model_dump(mode="json", by_alias=True, exclude_none=True),
        "status": status,
    }
    return written if deleted is None else {**written, "deleted": deleted}


@pytest.mark.parametrize("retain", ["best", "all", "none"])
def test_a_study_that_has_not_ended_keeps_all_of_its_plan(retain: str) -> None:
    intent = read_intent(document(retain=retain))
    assert intent == Intent("s", Scope.PLAN, "best", None)
    assert intent.holds("anything", (), 0.0)
    assert intent.forbids_eviction("anything")


@pytest.mark.parametrize(
    ("retain", "on_its_way", "elsewhere", "best"),
    [
        ("best", False, False, True),
        ("all", True, False, True),
        ("none", False, False, False),
    ],
)
def test_one_that_has_ended_keeps_what_it_retains(
    retain: str, on_its_way: bool, elsewhere: bool, best: bool
) -> None:
    for state in ("Succeeded", "Failed"):
        intent = read_intent(document(state=state, retain=retain))
        assert intent.holds("key", {"s", "t"}, 0.0) is on_its_way
        assert intent.holds("key", {"t"}, 0.0) is elsewhere
        assert intent.holds("best", (), 0.0) is best
        assert intent.forbids_eviction("best") is best
        assert not intent.forbids_eviction("key")
        assert not intent.is_over(1e12)


@pytest.mark.parametrize("retain", ["best", "all", "none"])
def test_one_that_may_go_on_keeps_what_is_on_its_way_for_its_ttl(retain: str) -> None:
    end = {"reason": "budget", "isOpen": True, "at": 1000.0}
    written = document(state="Succeeded", retain=retain, ttl="2d")
    written["status"]["end"] = end
    intent = read_intent(written)
    for now, is_held in ((1000.0 + 2 * DAY - 1, retain != "none"), (1000.0 + 2 * DAY, False)):
        assert intent.holds("key", {"s"}, now) is (is_held or retain == "all")
        assert not intent.holds("key", {"t"}, now)
    assert not intent.forbids_eviction("key")
    assert not intent.is_over(1e12)
    written["deleted"] = 1001.0
    assert read_intent(written).holds("key", {"s"}, 1002.0) is (retain == "all")
    written["status"]["end"] = {**end, "isOpen": False}
    del written["deleted"]
    assert read_intent(written).holds("key", {"s"}, 1002.0) is (retain == "all")


@pytest.mark.parametrize("state", [None, "Succeeded"])
def test_a_deleted_one_keeps_it_for_its_ttl_from_then_on(state: str | None) -> None:
    intent = read_intent(document(state=state, deleted=1000.0, ttl="2d"))
    assert intent.holds("best", (), 0.0)
    assert not intent.holds("key", {"s"}, 0.0)
    assert not intent.forbids_eviction("best")
    assert not intent.is_over(1000.0 + 2 * DAY - 1)
    assert intent.is_over(1000.0 + 2 * DAY)
    assert read_intent(document(deleted=1000.0)).until == 1000.0 + 7 * DAY
    assert read_intent(document(deleted=1000.0, ttl="0s")).is_over(1000.0)


def test_what_a_newer_hippo_wrote_is_kept() -> None:
    written = document(state="Succeeded", deleted=1.0)
    written["study"]["spec"]["checkpoints"]["retain"] = "the three best"
    assert read_intent(written) == Intent("s", Scope.PLAN)
