"""An ended study resumes once its limits are raised; nothing is lost or decided again."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from hippo.engine.events import StudyRemoved
from hippo.engine.reopening import is_lacking, tell_reason
from hippo.lifecycles import EndReason, StudyState, TrialState
from hippo.model.study import Budget
from hippo.views.summary import estimate_remaining
from tests.unit.engine.test_properties import ALGORITHMS, DEPEND_ON_ORDER, check_trials, worlds
from tests.world import Costs, World, build_study, with_spec

FAR = {"lr": {"choices": [0.1, 0.2, 0.3]}}
MANY = {"lr": {"choices": [index / 100 for index in range(1, 30)]}}


def test_a_budget_that_is_spent_saves_what_runs_and_a_greater_one_goes_on_from_there() -> None:
    study = build_study(space=FAR, budget={"wallTime": "5s"})
    world = World([study], workers=3).run()
    run = world.engine.studies["s"]
    assert (run.state, run.end) == (StudyState.FAILED, EndReason.BUDGET)
    assert run.message == (
        "its budget of 5s of wall time is spent; raise spec.budget.wallTime above 5s and run again"
        " to go on"
    )
    assert [step for step, _ in world.checkpoints.values()] == [5, 5, 5], "nothing is lost"
    world.run_again("s").run()  # as it is
    assert world.ended["s"].message == run.message
    assert len(world.checkpoints) == 3
    world.run_again("s", budget=Budget(wall_time="13s")).run()
    run = world.engine.studies["s"]
    assert run.state is StudyState.SUCCEEDED
    assert {trial.state for trial in run.trials} == {TrialState.COMPLETED}
    assert sum(world.trained.values()) == 3 * 12, "nothing is trained twice"
    assert run.steps_trained == 3 * 12
    assert run.worker_seconds == pytest.approx(3 * 12)
    assert run.wall_before == pytest.approx(12)
    assert world.verdicts["s"] == "it goes on, with 3 trials that its end had stopped"


def test_a_budget_that_is_not_raised_enough_says_what_is_spent() -> None:
    world = World([build_study(space=FAR, budget={"wallTime": "5s"})], workers=3).run()
    world.run_again("s", budget=Budget(wall_time="5s", worker_hours=0.001)).run()
    assert "raise spec.budget.workerHours above 0.004167" in world.verdicts["s"]
    assert world.engine.studies["s"].state is StudyState.FAILED


def test_without_a_wish_to_retain_nothing_is_kept() -> None:
    study = build_study(space=FAR, budget={"wallTime": "5s"}, checkpoints={"retain": "none"})
    assert World([study], workers=3).run().checkpoints == {}


def test_what_was_kept_for_a_study_goes_when_it_is_deleted() -> None:
    world = World([build_study(space=FAR, budget={"wallTime": "5s"})], workers=3).run()
    assert world.checkpoints
    world.feed(StudyRemoved("s"))
    assert world.checkpoints == {}


def test_others_go_on_undisturbed_beside_a_study_whose_budget_is_spent() -> None:
    first = build_study("a", space=FAR, budget={"wallTime": "5s"})
    other = build_study("b", space={"lr": {"choices": [0.3, 0.4]}})
    world = World([first, other], workers=2).run()
    assert world.engine.studies["b"].state is StudyState.SUCCEEDED
    world.run_again("a", budget=Budget()).run()
    assert world.engine.studies["a"].state is StudyState.SUCCEEDED
    assert sum(world.trained.values()) == 4 * 12
    check_trials(world)


def test_too_many_failures_save_what_runs_and_more_may_be_allowed() -> None:
    bad = {key for key in _keys(build_study(space=FAR), 0.1) if key[1] == 3}
    world = World(
        [build_study(space=FAR, maxFailedTrials=0, retries=0)],
        workers=3,
        fail=lambda key, attempt: "it broke" if key in {k for k, _ in bad} else None,
    ).run()
    run = world.engine.studies["s"]
    assert (run.state, run.end) == (StudyState.FAILED, EndReason.FAILED_TRIALS)
    assert run.message == (
        "1 stage failed, more than maxFailedTrials (0); the last one: it broke; mend it and run"
        " again with --retry-failed, or raise spec.maxFailedTrials above 0 and run again"
    )
    assert sorted(step for step, _ in world.checkpoints.values()) == [3, 3]
    world.run_again("s", max_failed_trials=1).run()
    run = world.engine.studies["s"]
    assert run.state is StudyState.SUCCEEDED
    assert [str(trial.state) for trial in run.trials] == ["Failed", "Completed", "Completed"]
    assert sum(world.trained.values()) == 2 + 2 * 12
    world.fail = lambda key, attempt: None
    world.run_again("s", retry=True).run()
    run = world.engine.studies["s"]
    assert [str(trial.state) for trial in run.trials] == ["Completed"] * 3
    assert not run.failing
    check_trials(world)


def _keys(study: Any, lr: float) -> list[tuple[str, int]]:
    from hippo.model import Sequence
    from tests.world import SIGNATURE

    sequence = Sequence.of({"lr": lr}, 12)
    return [(sequence.key(step, SIGNATURE), step) for step in range(1, 13)]


def test_what_failed_goes_on_from_its_last_checkpoint() -> None:
    study = build_study(space={"lr": {"choices": [0.1, {"piecewise": [[0, 0.1], [6, 0.2]]}]}})
    study = with_spec(study, retries=0)
    broken = True
    world = World(
        [study], workers=1, fail=lambda key, attempt: "no room" if broken and attempt else None
    )
    keys = {key for key, step in _keys(study, 0.1) if step <= 8}
    world.fail = lambda key, attempt: "no room" if broken and key not in keys else None
    world.run()
    assert world.engine.studies["s"].state is StudyState.FAILED
    assert world.engine.studies["s"].end is EndReason.NO_RESULT
    assert world.ended["s"].message == (
        "no trial succeeded: no room; mend it and run again with --retry-failed"
    )
    assert world.engine.plan is not None
    assert any(step == 6 for step, _ in world.checkpoints.values())
    world.run_again("s").run()
    assert world.engine.studies["s"].state is StudyState.FAILED, "nobody asked"
    broken = False
    world.run_again("s", retry=True).run()
    assert world.engine.studies["s"].state is StudyState.SUCCEEDED
    at_most_once = [count for key, count in world.trained.items() if key in keys]
    assert max(at_most_once[:6]) == 1
    check_trials(world)
    kinds = [decision.kind for decision in world.decisions["s"]]
    assert kinds == ["suggest", "suggest", "fail", "fail", "reopen", "reopen"]
    before = [(trial.state, trial.results, trial.reason) for trial in _trials(world)]
    world.start_engine()
    world.run()
    assert [(trial.state, trial.results, trial.reason) for trial in _trials(world)] == before


def _trials(world: World) -> Any:
    return world.engine.studies["s"].trials


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda settings: settings["name"])
def test_more_trials_may_be_asked_for_after_the_end(algorithm: dict[str, Any]) -> None:
    name = algorithm["name"]
    fields = {} if name == "pbt" else {"maxTrials": 4}
    world = World([build_study(space=MANY, algorithm=algorithm, **fields)], workers=2).run()
    decided = list(world.decisions["s"])
    before = len(_trials(world))
    world.run_again("s").run()
    assert world.decisions["s"] == decided
    if name == "pbt":
        assert "pbt draws its population and no more" in world.verdicts["s"]
        return
    assert world.verdicts["s"].startswith("all trials have ended; raise spec.maxTrials above 4 and")
    world.run_again("s", max_trials=9).run()
    assert before == 4
    assert len(_trials(world)) == 9
    assert world.decisions["s"][: len(decided)] == decided
    assert {decision.trial for decision in world.decisions["s"][len(decided) :]} >= {4, 5, 6, 7, 8}
    assert world.engine.studies["s"].state is StudyState.SUCCEEDED
    check_trials(world)


def test_a_space_that_is_used_up_says_so() -> None:
    world = World([build_study(space=FAR)], workers=2).run()
    world.run_again("s").run()
    assert world.verdicts["s"] == (
        "all trials have ended; all 3 points of its space were drawn; to train on, give it another"
        " name"
    )


def test_a_study_that_has_reached_its_target_stays_ended() -> None:
    target = {"metric": "score", "goal": "maximize", "target": 0.0}
    world = World([build_study(space=MANY, objective=target, maxTrials=4)], workers=1).run()
    assert world.engine.studies["s"].end is EndReason.TARGET
    world.run_again("s", max_trials=9).run()
    assert len(_trials(world)) == 4
    assert world.verdicts["s"].endswith("to train on, give it another name")


def test_replicates_go_on_and_end_the_search() -> None:
    study = build_study(
        space=MANY, maxTrials=3, replicates=2, replicateBest=1, budget={"wallTime": "40s"}
    )
    world = World([study], workers=1).run()
    run = world.engine.studies["s"]
    assert run.end is EndReason.BUDGET
    assert [trial.is_replicate for trial in run.trials] == [False] * 3 + [True] * 2
    world.run_again("s", budget=Budget()).run()
    assert {str(trial.state) for trial in _trials(world)} == {"Completed"}
    assert sum(world.trained.values()) == 5 * 12
    world.run_again("s", max_trials=9).run()
    assert "which ends the search" in world.verdicts["s"]
    assert len(_trials(world)) == 5


@pytest.mark.slow
@settings(max_examples=60)
@given(
    worlds(most=2),
    st.sampled_from(["wall", "worker", "failures", "trials"]),
    st.floats(0.5, 60.0),
    st.integers(0, 2**16),
    st.sampled_from(["calm", "disturbed", "restarted"]),
)
def test_interrupted_by_any_limit_and_raised_it_ends_as_if_it_had_never_been(
    world: World, limit: str, moment: float, seed: int, course: str
) -> None:
    studies, dice = world.studies, random.Random(seed)
    study = studies[0]
    straight = World(studies, workers=world.workers, costs=world.costs).run()
    limited: dict[str, Any]
    unlimited: dict[str, Any] = {"budget": Budget()}
    broken: set[str] = set()
    match limit:
        case "wall":
            limited = {"budget": Budget(wall_time=f"{max(1, round(moment))}s")}
        case "worker":
            limited = {"budget": Budget(worker_hours=moment / 3600)}
        case "failures":
            limited, unlimited = {"max_failed_trials": 0}, {}
            # What failed stays so if replicates have begun, or if another has taken its place.
            assume(not any(other.spec.replicates for other in studies[1:]))
            assume(all(other.spec.algorithm.name != "pbt" for other in studies))
            broken = {key for key in straight.trained if dice.random() < 0.1}
        case _:
            most = study.spec.max_trials
            assume(most is not None and most > 1 and not study.spec.replicates)
            assert most is not None
            limited, unlimited = {"max_trials": dice.randrange(1, most)}, {"max_trials": most}
    world = World(
        [with_spec(study, retries=0 if broken else 3, **limited), *studies[1:]],
        world.workers,
        world.costs,
        known_costs=world.known_costs,
        fail=lambda key, attempt: "broken" if key in broken else None,
    )
    if course == "disturbed" and not broken:
        world.run_disturbed(dice)
    elif course == "restarted":
        world.run_with_restarts(dice)
    else:
        world.run()
    event(f"{limit}: {world.engine.studies['s0'].end}")
    broken.clear()
    for other in studies[1:]:
        world.retry.add(other.name)
    world.run_again("s0", retry=limit == "failures", **unlimited).run()
    check_trials(world)
    for run in world.engine.studies.values():
        assert run.state is StudyState.SUCCEEDED, run.message
        decided = [decision.index for decision in world.decisions[run.name]]
        assert decided == list(range(len(decided)))
    keeps = study.spec.checkpoints.retain != "none"
    if limit in ("wall", "worker") and len(studies) == 1 and keeps and course != "disturbed":
        assert set(world.trained.values()) == {1}, "some step was trained twice"
        is_counted = course == "calm"  # else the store's reports tell, which the world has not
        assert not is_counted or run.steps_trained == pytest.approx(sum(world.trained.values()))
    if limit != "trials":
        for run in world.engine.studies.values():
            if run.study.spec.algorithm.name not in DEPEND_ON_ORDER:
                _check_same(run, straight.engine.studies[run.name], exactly=limit != "failures")
    before = _told(world)
    world.start_engine()
    world.run()
    assert _told(world) == before


def _check_same(run: Any, calm: Any, *, exactly: bool) -> None:
    if not exactly and run.study.spec.algorithm.name not in ("grid", "random"):
        return  # what had failed was judged as the worst, and stays so
    assert [trial.latest for trial in run.trials] == [trial.latest for trial in calm.trials]
    assert run.best is not None
    assert run.best.index == calm.best.index


def _told(world: World) -> Any:
    """Results without marks, since others may compute more of those after a trial's end."""
    return [
        [(trial.state, trial.reason, trial.latest) for trial in run.trials]
        for run in world.engine.studies.values()
    ]


@pytest.mark.parametrize("limit", ["budget", "suspend"])
def test_nobody_trains_on_into_the_branch_of_a_study_that_rests(limit: str) -> None:
    """This holds although its path is longer and its request stands."""

    def late(gamma: float) -> Any:
        return {"multistep": {"initial": 0.1, "gamma": gamma, "milestones": [6]}}

    long = build_study("long", steps=30, space={"lr": {"choices": [late(0.5)]}})
    world = World([long], workers=1)
    if limit == "suspend":
        world.change("long", suspend=True)
    else:
        world.change("long", budget=Budget(wall_time="1s"))
    while world.advance():
        pass
    world.checkpoints.clear()
    rested = sum(world.trained.values())
    world.add(build_study("short", space={"lr": {"choices": [late(0.1)]}}))
    while world.advance():
        pass
    assert world.engine.studies["short"].state is StudyState.SUCCEEDED
    assert sum(world.trained.values()) - rested == 12


@pytest.mark.parametrize(
    "reason",
    [
        "metric 'scroe' is not among those that evaluate() returned (loss, score)",
        "evaluate() returned no 'scroe' at step 12 (it returned: loss, score)",
    ],
)
def test_only_another_metric_mends_what_lacks_one(reason: str) -> None:
    assert is_lacking(reason)
    assert is_lacking(reason, "scroe")
    assert not is_lacking(reason, "score")
    assert not is_lacking("ValueError: metric 'x' (trainer.py:3)")


def test_the_ends_of_an_older_hippo_are_told_by_their_words() -> None:
    for words, reason in [
        ("its budget of 10s of wall time is spent", EndReason.BUDGET),
        ("its budget of 2 worker-hours is spent", EndReason.BUDGET),
        ("4 stages failed, more than maxFailedTrials (3); the last one: x", "maxFailedTrials"),
        ("trial s-1 reached the target: loss 0.1", EndReason.TARGET),
        ("no trial succeeded: every trial diverged", EndReason.NO_RESULT),
        ("all trials have ended", EndReason.COMPLETED),
        ("removed", EndReason.REMOVED),
        ("the moon was full", None),
    ]:
        assert tell_reason(words) == reason


def test_a_driver_that_is_killed_while_it_reopens_a_study_leaves_nothing_stuck() -> None:
    broken = True
    world = World(
        [with_spec(build_study(space=FAR), retries=0)],
        workers=1,
        fail=lambda key, attempt: "no room" if broken else None,
    ).run()
    end = world.ended["s"]
    broken = False
    world.run_again("s", retry=True)
    world.ended["s"] = end  # the decisions were written, and the study was not
    world.run_again("s").run()
    assert [str(trial.state) for trial in _trials(world)] == ["Stopped"] * 3
    world.run_again("s", retry=True).run()
    assert [str(trial.state) for trial in _trials(world)] == ["Completed"] * 3
    check_trials(world)


def test_what_a_study_at_rest_asks_for_is_not_left_to_train() -> None:
    world = World([build_study(space=FAR, budget={"wallTime": "5s"})], workers=3)
    assert estimate_remaining(world.engine).steps == 3 * 12
    world.run()
    assert estimate_remaining(world.engine).steps == 0


def test_members_of_a_population_whose_places_are_taken_stay_failed() -> None:
    algorithm = {"name": "pbt", "population": 3, "interval": 4, "quantile": 0.34}
    world = World([with_spec(build_study(space=MANY, algorithm=algorithm), retries=0)], workers=2)
    lr = world.decisions["s"][0].hyperparameters["lr"]  # type: ignore[index]
    bad = {key for key, _ in _keys(world.studies[0], lr)}
    world.fail = lambda key, attempt: "no room" if key in bad else None
    world.run()
    assert str(_trials(world)[0].state) == "Failed"
    decided = list(world.decisions["s"])
    world.run_again("s", retry=True).run()
    assert world.decisions["s"] == decided
    assert world.verdicts["s"] == (
        "all trials have ended; the failed trials no longer matter; pbt draws its population and"
        " no more; to train on, give it another name"
    )


def test_a_result_that_comes_just_after_the_end_keeps_its_state_too() -> None:
    study = build_study(
        space={"lr": {"choices": [0.1]}},
        algorithm={"name": "sha", "eta": 2, "minSteps": 3},
        budget={"workerHours": 10 / 3600},
    )
    costs = Costs(step=0.7, start=2.0, load=0.5, save=0.3, evaluate=0.2, linger=1.0)
    world = World([study], workers=2, costs=costs, known_costs=False).run()
    assert sorted(step for step, _ in world.metrics.values()) == [3, 6]
    assert [set(trial.results) for trial in _trials(world)] == [{3}], "6 came after the end"
    world.start_engine()
    world.run()
    assert 6 in [step for step, _ in world.checkpoints.values()]
    world.run_again("s", budget=Budget()).run()
    assert set(world.trained.values()) == {1}
    check_trials(world)
