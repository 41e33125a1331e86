"""The marginal cost of a trial, compared with stage trees with and without it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.model import Sequence
from hippo.plan import (
    CostModel,
    Frontier,
    Overheads,
    SearchPlan,
    StoredCheckpoint,
    build_stage_tree,
    count_unique_steps,
    marginal_seconds,
    marginal_steps,
    unique_steps,
)
from hippo.plan.nodes import Claim
from tests.unit.plan.test_search_plan import LEAD, TRIALS, hyperparameters
from tests.world import World, build_study

TRIAL = st.tuples(hyperparameters(), st.integers(1, 12))
POINTS = st.lists(TRIAL, max_size=6)
LATE = {"piecewise": [[0, 0.1], [6, 0.2]]}


def build(
    trials: list[tuple[dict[str, Any], int]],
    saved: list[tuple[dict[str, Any], int]],
    known: list[tuple[dict[str, Any], int]],
    held: list[tuple[dict[str, Any], int]] = (),  # type: ignore[assignment]
) -> SearchPlan:
    """A plan with wants, states and metrics, some of them from the store; its frontier is fresh."""
    plan = SearchPlan("sig")
    keys = [(Sequence.of(written, 12).key(step, "sig"), step) for written, step in held]
    plan.recall(
        [StoredCheckpoint(key, step) for key, step in keys[::2]],
        [(key, step, {"m": 1.0}) for key, step in keys[1::2]],
    )
    frontier = Frontier(plan, CostModel())
    for written, step in known:
        plan.add_metrics(plan.insert(Sequence.of(written, 12)), step, {"m": 1.0})
    for index, (written, step) in enumerate(trials):
        plan.want(plan.insert(Sequence.of(written, 12)), step, ("s", index), LEAD)
    for written, step in saved:
        plan.add_checkpoint(plan.insert(Sequence.of(written, 12)), step)
    frontier.refresh(0.0)
    return plan


def describe(plan: SearchPlan) -> list[tuple[Any, ...]]:
    """Returns everything that a plan holds."""
    nodes = [
        (
            (node.number, node.start, node.end, node.leaning_children, tuple(node.children)),
            (set(node.wants), set(node.checkpoints), set(node.metrics)),
        )
        for node in plan.root.below()
    ]
    return [*nodes, tuple(plan.changed)]


@pytest.mark.slow
@given(TRIALS, POINTS, POINTS, POINTS, TRIAL)
@settings(max_examples=300)
def test_is_what_the_stage_tree_grows_by(
    trials: list[Any], saved: list[Any], known: list[Any], held: list[Any], new: Any
) -> None:
    written, steps = new
    sequence = Sequence.of(written, 12)
    plan = build(trials, saved, known, held)
    before = describe(plan)
    marginal = marginal_steps(plan, sequence, steps)
    assert describe(plan) == before, "it changed the plan"
    without = unique_steps(build_stage_tree(plan))
    plan.want(plan.insert(sequence), steps, ("new", 0), LEAD)
    assert marginal == unique_steps(build_stage_tree(plan)) - without


@pytest.mark.slow
@given(TRIALS)
def test_trials_cost_in_sum_what_they_train_together(trials: list[Any]) -> None:
    """Marginal costs in any order add up to the number of unique steps."""
    plan, total, targets = SearchPlan("sig"), 0, []
    frontier = Frontier(plan, CostModel())
    for index, (written, steps) in enumerate(trials):
        sequence = Sequence.of(written, 12)
        total += marginal_steps(plan, sequence, steps)
        targets.append((plan.insert(sequence), steps))
        plan.want(targets[-1][0], steps, ("s", index), LEAD)
        frontier.refresh(0.0)
    assert total == count_unique_steps(plan, targets)


@pytest.mark.slow
@given(TRIALS, hyperparameters())
def test_going_farther_never_costs_less(trials: list[Any], written: dict[str, Any]) -> None:
    plan = build(trials, [], [])
    sequence = Sequence.of(written, 12)
    costs = [marginal_steps(plan, sequence, steps) for steps in range(1, 13)]
    assert costs == sorted(costs)


def test_a_prefix_whose_states_were_deleted_costs_again() -> None:
    plan = build([], [({"a": 0.1}, 6)], [({"a": 0.1}, 12)])
    late = Sequence.of({"a": LATE}, 12)
    assert marginal_steps(plan, Sequence.of({"a": 0.1}, 12), 12) == 0
    assert marginal_steps(plan, late, 12) == 6
    (node, _) = plan.find(late)
    plan.drop_checkpoint(node.at(6).checkpoints[6])
    assert marginal_steps(plan, late, 12) == 12
    assert marginal_steps(plan, Sequence.of({"a": 0.1}, 12), 12) == 0


@pytest.mark.parametrize(
    ("position", "save_at", "refused", "expected"),
    [
        (3, set(), set(), 6),  # the chain can still be asked to save at 6
        (8, set(), set(), 12),  # it has passed the fork
        (8, {4}, set(), 8),  # it has passed it, but promised an earlier state
        (3, set(), {6, 5}, 8),  # it refused the fork, and not step 4
    ],
)
def test_what_a_running_chain_has_passed_costs_again(
    position: int, save_at: set[int], refused: set[int], expected: int
) -> None:
    plan = build([({"a": 0.1}, 12)], [], [])
    frontier = Frontier(plan, CostModel())
    (node, _) = plan.find(Sequence.of({"a": 0.1}, 12))
    claim = Claim("c", node, 0, 12, {12}, save_at, position=position, refused=refused)
    frontier.claim(claim)
    frontier.refresh(0.0)
    assert marginal_steps(plan, Sequence.of({"a": LATE}, 12), 12) == expected


def test_seconds_follow_measured_rates_and_overheads() -> None:
    overheads = Overheads(start=2.0, load=1.0, save=0.5, evaluate=0.25)
    costs = CostModel(step=3.0, overheads=overheads, is_stated=True)
    plan = build([({"a": 0.1}, 12)], [({"a": 0.1}, 8)], [({"a": 0.1}, 4)])
    same = Sequence.of({"a": 0.1}, 12)
    assert marginal_seconds(plan, same, 4, costs) == 0.0  # known
    assert marginal_seconds(plan, same, 12, costs) == 0.0  # wanted
    assert marginal_seconds(plan, same, 10, costs) == 0.25  # on the way: evaluate
    assert marginal_seconds(plan, Sequence.of({"a": LATE}, 12), 12, costs) == 39.75
    branch = Sequence.of({"a": {"piecewise": [[0, 0.1], [9, 0.2]]}}, 12)
    assert marginal_seconds(plan, branch, 12, costs) == 2.0 + 1.0 + 3 * 3.0 + 0.5 + 0.25


def test_no_cost_beyond_the_sequence() -> None:
    sequence = Sequence.of({"a": 0.1}, 12)
    for steps in (0, 13):
        with pytest.raises(ValueError, match=f"no step {steps} in a sequence of 12 steps"):
            marginal_steps(SearchPlan("sig"), sequence, steps)


def test_the_cost_of_a_lookup_does_not_grow_with_the_plan() -> None:
    """Only the nodes on the trial's path are visited."""
    looked_at = []
    for siblings in (1, 200):
        plan = build([({"a": 0.1}, 12)], [], [])
        for index in range(siblings):
            other = {"piecewise": [[0, 1000.0 + index], [6, 0.1]]}
            plan.want(plan.insert(Sequence.of({"a": other}, 12)), 12, ("x", index), LEAD)
        Frontier(plan, CostModel()).refresh(0.0)
        asked = 0
        sequence = Sequence.of({"a": LATE}, 12)
        key = Sequence.key

        def counted(self: Sequence, step: int, signature: str, key: Any = key) -> str:
            nonlocal asked
            asked += 1
            return str(key(self, step, signature))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Sequence, "key", counted)
            patch.setattr(SearchPlan, "nodes", None)
            assert marginal_steps(plan, sequence, 12) == 6
        looked_at.append(asked)
    assert looked_at[0] == looked_at[1]


@pytest.mark.parametrize(("retain", "expected"), [("all", 3), ("none", 12)])
def test_it_tells_what_a_run_will_train(retain: str, expected: int) -> None:
    """A later study trains the marginal steps of its trial: fewer if states were retained."""
    checkpoints = {"retain": retain}
    choices = [0.1, {"piecewise": [[0, 0.1], [9, 0.2]]}]
    world = World([build_study(space={"a": {"choices": choices}}, checkpoints=checkpoints)])
    world.run()
    trained = sum(world.trained.values())
    third = {"piecewise": [[0, 0.1], [9, 0.3]]}
    assert marginal_steps(world.engine.plan, Sequence.of({"a": third}, 12), 12) == expected
    world.studies.append(build_study("t", space={"a": {"choices": [third]}}))
    world.start_engine()
    world.run()
    assert sum(world.trained.values()) - trained == expected
