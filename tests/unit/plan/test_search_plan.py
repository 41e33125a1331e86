"""The search plan: insertion, splits, wants, and what the store held."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.model import Sequence
from hippo.plan import (
    CostModel,
    Frontier,
    SearchPlan,
    StoredCheckpoint,
    build_stage_tree,
    count_unique_steps,
    critical_path,
    lower_bound,
    unique_steps,
)

LEAD = (0, 0, "s")
VALUES = [0.1, 0.2, 64]


@st.composite
def hyperparameters(draw: st.DrawFn) -> dict[str, Any]:
    """Piecewise constant values of two names over 12 steps: many shared prefixes."""

    def schedule() -> Any:
        cuts = sorted(draw(st.sets(st.integers(1, 11), max_size=2)))
        entries = [[cut, draw(st.sampled_from(VALUES))] for cut in [0, *cuts]]
        return {"piecewise": entries}

    return {"a": schedule(), "b": schedule()}


TRIALS = st.lists(st.tuples(hyperparameters(), st.integers(1, 12)), min_size=1, max_size=12)


def build(trials: list[tuple[dict[str, Any], int]]) -> SearchPlan:
    plan = SearchPlan("sig")
    for index, (written, steps) in enumerate(trials):
        plan.want(plan.insert(Sequence.of(written, 12)), steps, ("s", index), LEAD)
    return plan


def prefixes(trials: list[tuple[dict[str, Any], int]]) -> set[tuple[Any, ...]]:
    """Returns every prefix of values that some trial needs: what must be trained, each once."""
    found = set()
    for written, steps in trials:
        sequence = Sequence.of(written, 12)
        rows: list[Any] = []
        for step in range(steps):
            rows.append(tuple(sorted(sequence.values(step).items())))
            found.add(tuple(rows))
    return found


@given(TRIALS)
def test_the_stage_tree_trains_each_distinct_prefix_once(
    trials: list[tuple[dict[str, Any], int]],
) -> None:
    plan = build(trials)
    stages = build_stage_tree(plan)
    assert unique_steps(stages) == len(prefixes(trials))
    assert critical_path(stages) == max(steps for _, steps in trials)
    targets = [(plan.insert(Sequence.of(written, 12)), steps) for written, steps in trials]
    assert count_unique_steps(plan, targets) == len(prefixes(trials))


@pytest.mark.slow
@given(TRIALS)
def test_parents_come_first_and_stages_join(trials: list[tuple[dict[str, Any], int]]) -> None:
    seen: dict[str, int] = {}
    for stage in build_stage_tree(build(trials)):
        if stage.parent is None:
            assert stage.start == 0
        else:
            assert seen[stage.parent] == stage.start
        assert stage.key not in seen
        seen[stage.key] = stage.end


@pytest.mark.slow
@given(TRIALS, st.randoms(use_true_random=False))
def test_the_order_of_insertion_does_not_matter(
    trials: list[tuple[dict[str, Any], int]], dice: Any
) -> None:
    one = {(s.key, s.parent) for s in build_stage_tree(build(trials))}
    mixed = list(trials)
    dice.shuffle(mixed)
    assert {(s.key, s.parent) for s in build_stage_tree(build(mixed))} == one


@pytest.mark.slow
@given(TRIALS, st.sets(st.integers(0, 200), max_size=6))
@settings(max_examples=200)
def test_the_frontier_is_the_stage_tree_kept_up_to_date(
    trials: list[tuple[dict[str, Any], int]], chosen: set[int]
) -> None:
    plan = build(trials)
    frontier = Frontier(plan, CostModel())
    frontier.refresh(0.0)
    places = [(node, step) for node in plan.nodes() for step in range(node.start + 1, node.end + 1)]
    for index in sorted(chosen):
        node, step = places[index % len(places)]
        plan.add_checkpoint(node, step)
        frontier.refresh(0.0)
    stages = build_stage_tree(plan)
    roots = {
        (stage.node.at(stage.start + 1 if stage.steps else stage.start).number, stage.start)
        for stage in stages
        if stage.parent is None
    }
    # Stages of one node that begin at one place are one head.
    assert set(frontier.ready) == roots
    assert round(frontier.ready_work) == unique_steps(stages)
    depth = max((head.demand.level for head in frontier.ready.values()), default=0)
    assert round(depth) == critical_path(stages)
    for node in plan.nodes():
        for checkpoint in node.checkpoints.values():
            leaned = any(
                stage.start == checkpoint.step and stage.node.at(checkpoint.step) is node
                for stage in stages
                if stage.parent is None
            )
            assert (plan_leans(node, checkpoint.step)) == leaned


def plan_leans(node: Any, step: int) -> bool:
    from hippo.engine.retention import _is_leaned_on

    return _is_leaned_on(node, step)


@pytest.mark.slow
@given(TRIALS)
def test_siblings_differ_from_their_first_step_on(
    trials: list[tuple[dict[str, Any], int]],
) -> None:
    for node in build(trials).root.below():
        for one, other in combinations(node.children.values(), 2):
            assert one.sequence.agreement(other.sequence) == node.end


@pytest.mark.slow
@given(TRIALS, st.data())
def test_what_the_store_holds_is_found_again(
    trials: list[tuple[dict[str, Any], int]], data: st.DataObject
) -> None:
    sequence = Sequence.of(trials[0][0], 12)
    step = data.draw(st.integers(1, trials[0][1]))
    plan = SearchPlan("sig")
    plan.recall(
        [StoredCheckpoint(sequence.key(step, "sig"), step)],
        [(sequence.key(step, "sig"), step, {"m": 1.0})],
    )
    for index, (written, _) in enumerate(trials):
        node = plan.insert(Sequence.of(written, 12))
        known = plan.want(node, step, ("s", index), LEAD)
        same = node.key(step) == sequence.key(step, "sig")
        assert (known is not None) == same
        latest = node.latest_checkpoint(12)
        assert (latest is not None) == same


@pytest.mark.slow
@given(TRIALS, st.integers(1, 5))
def test_no_schedule_beats_the_lower_bound(
    trials: list[tuple[dict[str, Any], int]], workers: int
) -> None:
    stages = build_stage_tree(build(trials))
    deeper = [
        sum(min(s.steps, max(0, s.depth + s.steps - depth)) for s in stages)
        for depth in range(critical_path(stages) + 1)
    ]
    brute = max(depth + -(-work // workers) for depth, work in enumerate(deeper))
    assert lower_bound(stages, workers) == brute


def test_a_longer_horizon_extends_a_leaf() -> None:
    plan = SearchPlan("sig")
    short = plan.insert(Sequence.of({"a": 0.1}, 10))
    long = plan.insert(Sequence.of({"a": 0.1}, 20))
    assert short is long
    assert long.end == 20
    late = {"piecewise": [[0, 0.1], [15, 0.2]]}
    assert plan.insert(Sequence.of({"a": late}, 20)).start == 15
    assert short.at(10).end == 15


def test_apart_keeps_equal_sequences_from_merging() -> None:
    plan = SearchPlan("sig")
    one = plan.insert(Sequence.of({"a": 0.1}, 10), apart="t-0")
    other = plan.insert(Sequence.of({"a": 0.1}, 10), apart="t-1")
    assert one is not other
    assert one.key(10) != other.key(10)


def test_costs_follow_the_batch_size() -> None:
    costs = CostModel()
    switch = Sequence.of({"batch_size": {"piecewise": [[0, 64], [6, 128]]}, "lr": 0.1}, 12)
    constant = Sequence.of({"batch_size": 64, "lr": 0.2}, 12)
    assert costs.seconds(switch, 0, 12) == 12
    costs.observe_steps(switch, 0, 6, 6.0)
    costs.observe_steps(switch, 6, 12, 3.0)
    assert costs.settle()
    assert costs.seconds(switch, 0, 12) == 9
    assert costs.seconds(switch, 4, 8) == 3
    assert costs.seconds(constant, 0, 12) == 12, "another lr is the same class"
    costs.observe_steps(constant, 0, 6, 5.5)
    assert not costs.settle(), "a change of less than a tenth moves nothing"
