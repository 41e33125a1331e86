"""Conditions, as every controller keeps them."""

from __future__ import annotations

from datetime import datetime

from hippo.kube.status.bounding import MAX_TEXT
from hippo.kube.status.conditions import find_condition, format_time, set_condition


def test_times_are_rfc_3339_in_utc() -> None:
    assert format_time(0.9) == "1970-01-01T00:00:00Z"
    assert datetime.fromisoformat(format_time(1234567890.0)).timestamp() == 1234567890.0


def test_the_time_changes_with_the_status_and_with_nothing_else() -> None:
    found = set_condition([], "Accepted", True, reason="Valid", now=10.0, generation=1)
    found = set_condition(
        found, "Accepted", True, reason="Other", message="more", now=20.0, generation=2
    )
    (condition,) = found
    assert condition.last_transition_time == format_time(10.0)
    assert (condition.reason, condition.message) == ("Other", "more")
    assert condition.observed_generation == 2
    (condition,) = set_condition(found, "Accepted", False, reason="Invalid", now=30.0)
    assert (condition.status, condition.last_transition_time) == ("False", format_time(30.0))
    (condition,) = set_condition([condition], "Accepted", None, reason="Unknown", now=40.0)
    assert (condition.status, condition.last_transition_time) == ("Unknown", format_time(40.0))


def test_others_stay_as_they_are_and_in_their_order() -> None:
    one = set_condition([], "Accepted", True, reason="Valid", now=1.0)
    two = set_condition(one, "Progressing", False, reason="Waiting", now=2.0)
    three = set_condition(two, "Accepted", True, reason="Valid", now=3.0)
    assert [condition.type for condition in three] == ["Accepted", "Progressing"]
    assert find_condition(three, "Progressing") == two[1]
    assert find_condition(three, "Failed") is None


def test_a_message_has_a_length_that_an_object_can_hold() -> None:
    (condition,) = set_condition([], "Failed", True, reason="Failed", message="x" * 9999, now=0.0)
    assert len(condition.message) == MAX_TEXT
