"""After a checkpoint nothing can tell: not a kernel, not a library, not an update in place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from stage_runner.checkpoints.codec import decode, encode, snapshot
from stage_runner.checkpoints.digest import find_differences, leaf_digests, state_digest
from tests.sameness import tell_apart
from tests.unit.stage_runner.states import STATES

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
SLOW_TO_DRAW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def through(state: Any) -> Any:
    return decode(b"".join(encode(state)))


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=SLOW_TO_DRAW)
@given(STATES)
def test_nothing_can_tell_what_was_restored_from_what_was_saved(state: Any) -> None:
    restored = through(state)
    assert not tell_apart(state, restored)
    assert state_digest(restored) == state_digest(state)


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=SLOW_TO_DRAW)
@given(STATES)
def test_a_snapshot_is_the_state_itself(state: Any) -> None:
    taken = snapshot(state)
    assert state_digest(taken) == state_digest(state)
    assert not tell_apart(state, decode(b"".join(encode(taken))))


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=SLOW_TO_DRAW)
@given(STATES, STATES)
def test_digests_are_equal_for_states_that_nothing_can_tell_apart_only(
    one: Any, other: Any
) -> None:
    for twin in (other, copy.deepcopy(one)):
        same = not tell_apart(one, twin)
        assert (state_digest(one) == state_digest(twin)) == same
        found = find_differences(leaf_digests(snapshot(one)), leaf_digests(snapshot(twin)))
        assert bool(found) != same
