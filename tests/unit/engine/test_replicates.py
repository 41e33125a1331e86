"""Replicates of the best trials, and a test metric that is not used for selection."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from hippo.engine import Engine
from hippo.engine.replicates import find_winner, replicated
from hippo.engine.state import StudyRun
from hippo.lifecycles import StudyState, TrialState
from hippo.local import build_result
from tests.world import World, build_study, evaluate, train_alone

SPACE: dict[str, Any] = {"lr": {"choices": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}


def score(state: str) -> dict[str, float]:
    value = evaluate(state)["score"]
    return {"score": value, "test": 1 - value}


def study_of(**spec: Any) -> Any:
    objective = {"metric": "score", "goal": "maximize", "testMetric": "test"}
    return build_study(
        "s", **{"space": SPACE, "objective": objective, "replicates": 3, "replicateBest": 2, **spec}
    )


def run_of(world: World) -> StudyRun:
    return world.engine.studies["s"]


def result_of(engine: Engine) -> dict[str, Any]:
    return build_result(engine, makespan_seconds=1.0, workers=engine.workers)


def test_the_best_are_trained_again_under_the_seeds_that_follow() -> None:
    world = World([study_of()], score=score).run()
    run = run_of(world)
    assert run.state is StudyState.SUCCEEDED
    ranked = sorted(run.trials[:6], key=run.standing)
    again = run.trials[6:]
    assert [(trial.parent, trial.seed) for trial in again] == [
        (trial.index, seed) for trial in ranked[:2] for seed in (1, 2, 3)
    ]
    for trial in again:
        written = dict(trial.sequence.hyperparameters)
        state, _ = train_alone(written, 12, 12, seed=trial.seed or 0)
        assert trial.results == {12: score(state)}
    assert set(world.trained.values()) == {1}


def test_the_winner_is_the_best_by_the_mean_of_its_replicates() -> None:
    winners = set()
    for first in range(1, 7):
        choices = [first / 10 + n / 100 for n in range(5)]
        run = run_of(World([study_of(space={"lr": {"choices": choices}})], score=score).run())
        means = {
            index: statistics.fmean(
                trial.results[12]["score"] for trial in run.trials if trial.parent == index
            )
            for index in {trial.parent for trial in run.trials if trial.is_replicate}
        }
        winner = find_winner(run)
        assert winner is run.best
        assert winner is not None
        assert winner.index == max(means, key=lambda index: means[index])
        winners.add(winner is run.leaders[0])
    assert winners == {True, False}, "a winner by luck was found out at least once"


def test_only_the_winners_state_is_kept() -> None:
    world = World([study_of()], score=score).run()
    winner = find_winner(run_of(world))
    assert winner is not None
    assert set(world.checkpoints) == {winner.node.key(12)}


def test_a_restart_goes_on_with_the_replicates() -> None:
    calm = World([study_of()], score=score, workers=1).run()
    world = World([study_of()], score=score, workers=1)
    moments = [5.0, 30.0, 75.0, 95.0, 110.0, 130.0]
    while not world.engine.is_finished:
        assert world.advance()
        if moments and world.now >= moments[0]:
            moments.pop(0)
            world.start_engine()
    assert moments == []
    assert world.decisions == calm.decisions
    assert [t.results for t in run_of(world).trials] == [t.results for t in run_of(calm).trials]
    assert find_winner(run_of(world)).name == find_winner(run_of(calm)).name  # type: ignore[union-attr]
    before = len(world.launches)
    world.start_engine()
    assert run_of(world).best is not None
    assert run_of(world).best.name == run_of(calm).best.name  # type: ignore[union-attr]
    assert len(world.launches) == before


def test_a_reached_target_is_checked_under_other_seeds_too() -> None:
    objective = {"metric": "score", "goal": "maximize", "target": 0.01}
    world = World([study_of(objective=objective)], workers=1).run()
    run = run_of(world)
    assert "target" in run.message
    assert [trial.state for trial in run.trials].count(TrialState.STOPPED) == 5
    assert [trial.seed for trial in run.trials if trial.is_replicate] == [1, 2, 3]
    world.start_engine()
    assert [t.state for t in run_of(world).trials] == [t.state for t in run.trials]


def test_a_replicate_that_fails_fails_no_study() -> None:
    world = World([study_of(space={"lr": {"choices": [0.1]}}, retries=0, maxFailedTrials=0)])
    run = run_of(world)

    def fail(key: str, attempt: int) -> str | None:
        again = [trial for trial in run.trials if trial.seed == 2]
        return "broken" if any(trial.node.key(6) == key for trial in again) else None

    world.fail = fail
    world.score = score
    world.run()
    assert run.state is StudyState.SUCCEEDED
    (entry,) = replicated(run)
    spread = entry.spread("score")
    assert spread is not None
    assert len(spread.values) == 2
    assert [trial.state for trial in entry.replicates].count(TrialState.FAILED) == 1


def test_the_test_metric_is_shown_for_the_winner_only_and_at_the_end() -> None:
    world = World([study_of()], score=score)
    while not run_of(world).trials[0].results:
        world.advance()
    assert "test" not in str(result_of(world.engine)["trials"])
    world.run()
    result = result_of(world.engine)
    shown = [row["trial"] for row in result["trials"] if "test" in row["metrics"]]
    assert shown == [result["best"]["trial"]]
    first, second = result["studies"][0]["replicates"]
    assert first["trial"] == result["best"]["trial"]
    assert first["test"]["mean"] == pytest.approx(1 - first["score"]["mean"])
    assert first["score"]["count"] == 3
    assert "test" not in second


def test_without_replicates_the_winner_is_the_best() -> None:
    world = World([study_of(replicates=0)], score=score).run()
    assert find_winner(run_of(world)) is run_of(world).leaders[0]
    assert result_of(world.engine)["studies"][0]["replicates"] == []
