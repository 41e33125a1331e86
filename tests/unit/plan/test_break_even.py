"""When merging pays: worked by hand, and against trees trained both ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.plan import Overheads, build_stage_tree, find_break_even, unique_steps
from hippo.plan.search_plan import SearchPlan
from hippo.views import plan_preview
from tests.unit.views.test_plan_preview import multistep
from tests.world import build_study


def weigh(space: dict[str, Any], step: float, overheads: Overheads) -> Any:
    found = plan_preview.analyse([build_study(space=space)])
    return found, find_break_even(found.stages, step, overheads)


def test_two_trials_that_part_once() -> None:
    """They share 6 of 12 steps: one save and one load, for 6 steps."""
    space = {"lr": {"choices": [0.1, multistep(6)]}}
    _, balance = weigh(space, 2.0, Overheads(start=50.0, load=3.0, save=5.0, evaluate=7.0))
    assert (balance.saved, balance.cost) == (12.0, 8.0)
    assert (balance.shared, balance.unpaid) == (1, 0)
    assert balance.steps == 5, "at 4 steps of 2 s both are 8 s"
    _, balance = weigh(space, 1.0, Overheads(load=3.0, save=5.0))
    assert (balance.saved, balance.cost, balance.unpaid) == (6.0, 8.0, 1)
    assert balance.steps == 9


def test_a_chain_of_forks_pays_for_each() -> None:
    """0-3 is shared by three trials, 3-6 by two; three branches at one step cost two loads."""
    overheads = Overheads(load=1.0, save=10.0)
    _, balance = weigh({"lr": {"choices": [0.1, multistep(3), multistep(6)]}}, 4.0, overheads)
    assert balance.saved == 4.0 * (2 * 3 + 1 * 3)
    assert balance.cost == 2 * (10.0 + 1.0)
    ways = [multistep(6), multistep(6, 8), {"piecewise": [[0, 0.1], [6, 0.5]]}]
    found, balance = weigh({"lr": {"choices": ways}}, 4.0, overheads)
    assert found.steps_unique == 6 + 2 + 4 + 4 + 6
    assert balance.saved == 4.0 * (2 * 6 + 1 * 2)
    assert balance.cost == 2 * (10.0 + 1.0)


def test_trials_that_share_nothing_cost_nothing() -> None:
    _, balance = weigh({"lr": {"choices": [0.1, 0.2, 0.3]}}, 1.0, Overheads(load=3.0, save=5.0))
    assert (balance.saved, balance.cost, balance.shared, balance.unpaid) == (0.0, 0.0, 0, 0)


@pytest.mark.slow
@settings(max_examples=200)
@given(
    st.lists(st.lists(st.integers(1, 11), max_size=3, unique=True), min_size=1, max_size=8),
    st.floats(0.1, 10.0),
)
def test_what_is_saved_is_what_need_not_be_trained(
    milestones: list[list[int]], step: float
) -> None:
    unique = {tuple(sorted(found)): None for found in milestones}
    ways: list[Any] = [multistep(*found) if found else 0.1 for found in unique]
    found, balance = weigh({"lr": {"choices": ways}}, step, Overheads())
    spared = found.steps_requested - found.steps_unique
    assert balance.saved == pytest.approx(step * spared)
    assert balance.cost == 0.0


def test_an_empty_tree() -> None:
    assert unique_steps(build_stage_tree(SearchPlan("nothing"))) == 0
    balance = find_break_even([], 1.0, Overheads(load=0.5))
    assert (balance.steps, balance.shared, balance.saved) == (1, 0, 0.0)
