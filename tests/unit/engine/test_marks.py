"""Marks: reports on the way to a request, at which no stage ends and nothing is stored."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hippo.engine.events import StudyAdded
from hippo.lifecycles import StudyState, TrialState
from tests.unit.engine.test_properties import check_results
from tests.world import Costs, World, build_study

MEDIAN = {"name": "median", "every": 3, "minSteps": 3, "minTrials": 2}


def space(*values: Any) -> dict[str, Any]:
    return {"lr": {"choices": list(values)}}


def study_of(name: str = "s", **spec: Any) -> Any:
    return build_study(
        name, **{"space": space(*(n / 10 for n in range(1, 10))), "algorithm": MEDIAN, **spec}
    )


def test_a_chain_reports_at_marks_and_goes_on() -> None:
    world = World([study_of(space=space(0.1, 0.2))], workers=1, costs=Costs(linger=1.0)).run()
    check_results(world)
    assert len(world.launches) == 2
    assert [a.route.evaluate_at for a in world.launches] == [(3, 6, 9, 12)] * 2
    assert [a.route.save_at for a in world.launches] == [(12,)] * 2
    for trial in world.engine.studies["s"].trials:
        assert sorted(trial.results) == [3, 6, 9, 12]


def test_a_trial_below_the_median_is_stopped_in_the_middle_of_its_chain() -> None:
    world = World([study_of()], workers=2).run()
    run = world.engine.studies["s"]
    stopped = [trial for trial in run.trials if trial.state is TrialState.STOPPED]
    assert stopped
    assert len(world.trained) < 9 * 12
    for trial in stopped:
        assert "median" in trial.reason
        assert world.trained[trial.node.key(12)] == 0
    assert set(world.trained.values()) == {1}
    assert set(world.checkpoints) == {run.best.node.key(12)} if run.best else False


def test_a_chain_under_way_is_asked_for_marks_that_come_up() -> None:
    world = World([build_study("a", space=space(0.1), steps=12)], workers=1)
    while world.now < 4:
        world.advance()
    late = study_of("b", space=space(0.1))
    world.studies.append(late)
    world.feed(StudyAdded(late))
    world.run()
    assert len(world.launches) == 1
    # What has passed already is not trained again for a mark.
    assert sorted(world.engine.studies["b"].trials[0].results) == [6, 9, 12]
    assert set(world.trained.values()) == {1}


def test_a_result_that_others_made_known_does_not_revive_a_stopped_trial() -> None:
    world = World([study_of(), build_study("all", space=study_of().spec.space)], workers=2).run()
    before = [trial.state for trial in world.engine.studies["s"].trials]
    assert TrialState.STOPPED in before
    world.ended.clear()
    world.start_engine()
    world.run()
    assert [trial.state for trial in world.engine.studies["s"].trials] == before
    assert world.engine.studies["s"].state is StudyState.SUCCEEDED


def test_a_diverged_mark_ends_the_trial_and_its_chain() -> None:
    def score(state: str) -> dict[str, float]:
        return {"score": float("nan")}

    world = World([study_of(space=space(0.1, 0.2))], workers=1, score=score).run()
    trials = world.engine.studies["s"].trials
    assert [trial.state for trial in trials] == [TrialState.DIVERGED] * 2
    assert [max(trial.results) for trial in trials] == [3, 3]
    assert len(world.trained) <= 8


@pytest.mark.slow
def test_faults_between_marks_lose_no_result() -> None:
    for seed in range(40):
        world = World([study_of()], workers=3, costs=Costs(save=0.3, linger=seed % 2))
        check_results(world.run_disturbed(random.Random(seed), limit=5000))
