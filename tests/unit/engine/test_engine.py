"""The engine in particular situations, each described in a few lines."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from hippo.engine.commands import Launch, Steer
from hippo.engine.events import StudyAdded, StudyChanged, StudyRemoved
from hippo.lifecycles import (
    TRANSITIONS,
    InvariantViolated,
    StageEvent,
    StudyEvent,
    StudyState,
    TrialEvent,
    TrialState,
    WorkerEvent,
    WorkerState,
    advance,
)
from hippo.model import Sequence
from hippo.protocol.reports import Outcome, WorkerError
from tests.world import SIGNATURE, Costs, World, build_study, evaluate, train_alone

TWO = {"lr": {"choices": [0.1, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}}]}}
FAR = {"lr": {"choices": [0.1, 0.2]}}


def states(world: World, name: str = "s") -> list[str]:
    return [str(trial.state) for trial in world.engine.studies[name].trials]


def test_two_trials_share_their_prefix() -> None:
    world = World([build_study(space=TWO)], workers=2).run()
    assert sum(world.trained.values()) == 6 + 6 + 6
    assert world.now == 12, "the sibling starts as soon as the fork is saved"
    first = world.launches[0].route
    assert first.save_at == (6, 12)
    assert first.evaluate_at == (12,)


def test_a_fork_that_comes_late_is_asked_of_the_running_chain() -> None:
    world = World([build_study("a", space={"lr": {"choices": [0.1]}})], workers=2)
    while world.now < 3:
        world.advance()
    world.studies.append(build_study("b", space=TWO))
    world.feed(StudyAdded(world.studies[1]))
    world.run()
    steered = [command for command in world.log if isinstance(command, Steer)]
    assert 6 in steered[0].control.route.save_at
    assert set(world.trained.values()) == {1}


def test_a_fork_that_comes_too_late_is_trained_again_from_the_last_checkpoint() -> None:
    world = World([build_study("a", space={"lr": {"choices": [0.1]}})], workers=2)
    while world.now < 8:
        world.advance()
    world.studies.append(build_study("b", space=TWO))
    world.feed(StudyAdded(world.studies[1]))
    world.run()
    assert sum(world.trained.values()) == 12 + 12, "steps 0 to 6 were not kept"
    trial = world.engine.studies["b"].trials[1]
    assert trial.results[12] == train_alone(dict(trial.sequence.hyperparameters), 12, 12)[1]


def test_a_later_study_reuses_what_is_stored() -> None:
    world = World([build_study("a", space=TWO, checkpoints={"retain": "all"})], workers=2).run()
    world.studies.append(build_study("b", space={"lr": {"choices": [*TWO["lr"]["choices"], 0.3]}}))
    world.start_engine()
    world.run()
    assert sum(world.trained.values()) == 18 + 12, "only the new choice is trained"


def test_a_fork_between_studies_is_kept_for_a_trial_that_may_be_promoted() -> None:
    choices = [
        0.1,
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [9]}},
        {"warmup": {"from": 0, "to": 0.1, "steps": 3, "then": 0.1}},
    ]
    late = {"piecewise": [[0, 64], [8, 128]]}
    sha = {"name": "sha", "eta": 2, "minSteps": 3}
    space = {"lr": {"choices": choices}, "bs": {"choices": [64]}}
    world = World(
        [
            build_study("a", space=space, algorithm=sha, maxTrials=4),
            build_study("b", space={"lr": {"choices": choices}, "bs": {"choices": [late]}}),
        ],
        workers=1,
        known_costs=False,
    ).run()
    assert set(world.trained.values()) == {1}


def test_promoted_trials_go_on_from_their_checkpoint() -> None:
    study = build_study(space=FAR, algorithm={"name": "sha", "eta": 2, "minSteps": 6})
    world = World([study], workers=1).run()
    assert sorted(states(world)) == ["Completed", "Stopped"]
    assert sum(world.trained.values()) == 6 + 6 + 6
    assert world.launches[-1].start == 6


def test_a_lingering_worker_goes_on_in_place() -> None:
    study = build_study(space=FAR, algorithm={"name": "sha", "eta": 2, "minSteps": 6})
    world = World([study], workers=2, costs=Costs(linger=1.0, start=5.0)).run()
    assert len(world.launches) <= 3
    continued = [c for c in world.log if isinstance(c, Steer) and c.control.route.stop_at == 12]
    assert len(continued) + len(world.launches) == 3
    assert set(world.trained.values()) == {1}


def test_a_flaky_stage_is_retried_with_growing_pauses() -> None:
    flaky = Sequence.of({"lr": 0.1}, 12).key(5, SIGNATURE)
    world = World(
        [build_study(space={"lr": {"choices": [0.1]}})],
        fail=lambda key, attempt: "flaky" if key == flaky and attempt <= 2 else None,
    )
    world.run()
    assert states(world) == ["Completed"]
    assert [n for n in world.notices if "retry 1 of 3 in 1 s" in n]
    assert [n for n in world.notices if "retry 2 of 3 in 2 s" in n]


def test_a_stage_that_fails_for_good_fails_only_the_trials_that_need_it() -> None:
    space = {
        "lr": {
            "choices": [
                0.1,
                {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
                {"multistep": {"initial": 0.1, "gamma": 0.5, "milestones": [6]}},
            ]
        }
    }
    probe = World([build_study(space=space)]).run()
    bad = probe.engine.studies["s"].trials[1].sequence.key(8, "signature")
    world = World(
        [build_study(space=space, retries=1)],
        fail=lambda key, attempt: "ValueError: diverges" if key == bad else None,
    ).run()
    assert states(world) == ["Completed", "Failed", "Completed"]
    run = world.engine.studies["s"]
    assert run.state is StudyState.SUCCEEDED
    assert run.trials[1].reason == "ValueError: diverges"
    assert list(run.failing) == [bad]
    assert [d.kind for d in world.decisions["s"]].count("fail") == 1


def test_failures_are_counted_by_stage_and_not_by_trial() -> None:
    space = {
        "lr": {"choices": [0.1]},
        "m": {"choices": [0.5, {"piecewise": [[0, 0.5], [6, 0.6]]}]},
    }
    world = World(
        [build_study(space=space, retries=0, maxFailedTrials=0)],
        fail=lambda key, attempt: "boom",
    ).run()
    run = world.engine.studies["s"]
    assert run.state is StudyState.FAILED
    assert len(run.failing) == 1, "both trials need the same stage"
    assert states(world) == ["Failed", "Failed"]


def test_too_many_failures_end_the_study() -> None:
    space = {"lr": {"choices": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}
    world = World(
        [build_study(space=space, retries=0, maxFailedTrials=2)], fail=lambda key, attempt: "boom"
    ).run()
    run = world.engine.studies["s"]
    assert run.state is StudyState.FAILED
    assert "maxFailedTrials (2)" in run.message
    assert len(run.failing) == 3


def test_failures_survive_a_restart() -> None:
    world = World(
        [build_study(space=FAR, retries=0)],
        workers=1,
        fail=lambda key, attempt: "boom" if attempt == 1 and not world_has_failed[0] else None,
    )
    world_has_failed = [False]
    while not any(d.kind == "fail" for d in world.decisions["s"]):
        world.advance()
    world_has_failed[0] = True
    world.start_engine()
    world.run()
    assert states(world) == ["Failed", "Completed"]


def test_a_metric_that_is_not_finite_ends_the_trial_as_diverged() -> None:
    nan = train_alone({"lr": 0.1}, 12, 12)[0]
    world = World(
        [build_study(space=FAR)],
        score=lambda state: {"score": math.nan} if state == nan else evaluate(state),
    ).run()
    assert states(world) == ["Diverged", "Completed"]
    assert world.engine.studies["s"].state is StudyState.SUCCEEDED


def test_a_missing_metric_names_what_there_is() -> None:
    world = World([build_study(space=FAR)], score=lambda state: {"loss": 1.0}).run()
    run = world.engine.studies["s"]
    assert run.state is StudyState.FAILED
    assert run.trials[0].reason == (
        "metric 'score' is not among those that evaluate() returned (loss)"
    )
    assert run.message.endswith("(loss); mend spec.objective.metric and run again")


def test_the_target_ends_the_study() -> None:
    target = max(train_alone({"lr": lr}, 12, 12)[1]["score"] for lr in (0.1, 0.2))
    study = build_study(
        space={"lr": {"choices": [0.1, 0.2, 0.3]}},
        objective={"metric": "score", "goal": "maximize", "target": target},
    )
    world = World([study], workers=1).run()
    run = world.engine.studies["s"]
    assert run.state is StudyState.SUCCEEDED
    assert "reached the target" in run.message


def test_the_result_that_ends_a_study_is_had_by_all_trials_that_share_it() -> None:
    """They have it after a restart, too."""
    batch_sizes: list[Any] = [64, *({"piecewise": [[0, 64], [step, 32]]} for step in (3, 8))]
    study = build_study(
        space={"bs": {"choices": batch_sizes}},
        algorithm={"name": "median", "every": 2, "minSteps": 2, "minTrials": 1},
        objective={"metric": "score", "goal": "maximize", "target": 0.0},
        maxTrials=3,
    )
    world = World([study], workers=1).run()
    assert [list(trial.results) for trial in world.engine.studies["s"].trials] == [[2], [2], [2]]
    stops = [d for d in world.decisions["s"] if d.kind == "stop"]
    assert [decision.steps for decision in stops] == [2, 2, 2]
    world.start_engine()
    world.run()
    assert [list(trial.results) for trial in world.engine.studies["s"].trials] == [[2], [2], [2]]


def test_a_spent_budget_ends_the_study_with_what_it_has() -> None:
    study = build_study(space=FAR, budget={"workerHours": 13 / 3600})
    world = World([study], workers=1).run()
    assert states(world) == ["Completed", "Stopped"]
    study = build_study(space=FAR, budget={"wallTime": "15s"})
    world = World([study], workers=1).run()
    assert states(world) == ["Completed", "Stopped"]
    assert world.now <= 17


def test_a_budget_spent_before_any_result_is_a_failure() -> None:
    world = World([build_study(space=FAR, budget={"wallTime": "3s"})], workers=1).run()
    assert world.engine.studies["s"].state is StudyState.FAILED


def test_suspended_work_is_saved_and_goes_on() -> None:
    study = build_study(space={"lr": {"choices": [0.1]}})
    world = World([study], workers=1)
    while world.now < 5:
        world.advance()
    world.feed(StudyChanged(build_study(space={"lr": {"choices": [0.1]}}, suspend=True)))
    while world.running:
        world.advance()
    assert not world.engine.chains
    assert states(world) == ["Pending"]
    world.feed(StudyChanged(study))
    world.run()
    assert sum(world.trained.values()) == 12, "suspending loses nothing"


def test_removing_a_study_leaves_the_others_unharmed() -> None:
    world = World([build_study("a", space=FAR), build_study("b", space=TWO)], workers=1)
    while world.now < 3:
        world.advance()
    world.feed(StudyRemoved("a"))
    world.run()
    assert states(world, "b") == ["Completed", "Completed"]
    assert set(world.trained.values()) == {1}
    assert world.engine.studies["a"].state is StudyState.FAILED


def test_a_chain_that_nobody_wants_is_stopped() -> None:
    world = World([build_study("a", space=FAR)], workers=2)
    while world.now < 3:
        world.advance()
    world.feed(StudyRemoved("a"))
    world.run()
    assert world.now <= 5
    assert world.checkpoints == {}


def test_priority_goes_first_and_parallelism_is_kept() -> None:
    many = {"lr": {"choices": [0.1, 0.2, 0.3, 0.4]}}
    other = {"m": {"choices": [0.1, 0.2, 0.3, 0.4]}}
    world = World(
        [
            build_study("low", space=many),
            build_study("high", space=other, priority=5, parallelism=1),
        ],
        workers=2,
    )
    launched = [command.study for command in world.log if isinstance(command, Launch)]
    assert launched == ["high", "low"]
    while not world.engine.is_finished:
        world.advance()
        assert sum(chain.study == "high" for chain in world.engine.chains.values()) <= 1


def test_an_asha_study_of_high_priority_is_not_starved() -> None:
    many = {"m": {"choices": [index / 100 for index in range(1, 30)]}}
    asha = {"name": "asha", "eta": 2, "minSteps": 3}
    world = World(
        [
            build_study("grid", space=many),
            build_study("asha", space=FAR, algorithm=asha, priority=1),
        ],
        workers=2,
    )
    while not world.engine.studies["asha"].state.is_final:
        world.advance()
    done = [trial for trial in world.engine.studies["grid"].trials if trial.results]
    assert len(done) < 10
    world.run()


@pytest.mark.parametrize("name", ["random", "sha", "asha"])
def test_max_trials_may_grow_while_a_study_runs_or_between_runs(name: str) -> None:
    space = {"lr": {"choices": [index / 100 for index in range(1, 30)]}}
    settings = {"name": name} if name == "random" else {"name": name, "eta": 2, "minSteps": 3}

    def study(trials: int) -> Any:
        return build_study(space=space, algorithm=settings, maxTrials=trials)

    for restart in (False, True):
        world = World([study(4)], workers=2)
        while world.now < 5:
            world.advance()
        if restart:
            world.studies[0] = study(8)
            world.start_engine()
        else:
            world.feed(StudyChanged(study(8)))
        world.run()
        assert len(world.engine.studies["s"].trials) == 8
        assert all(trial.state.is_final for trial in world.engine.studies["s"].trials)


def test_a_damaged_checkpoint_is_dropped_and_trained_again() -> None:
    world = World([build_study(space=TWO)], workers=1)
    while not world.checkpoints:
        world.advance()
    key = next(iter(world.checkpoints))
    world.checkpoints.pop(key)  # lost behind the engine's back
    world.run()
    assert states(world) == ["Completed", "Completed"]
    assert any("trained again" in notice for notice in world.notices)


def test_a_foreign_checkpoint_costs_one_more_training_and_no_retry() -> None:
    world = World([build_study(space=TWO, retries=0)], workers=1)
    while not any(chain.claim.start == 6 for chain in world.engine.chains.values()):
        world.advance()
    world.kill(world.running[0], Outcome.REFUSED)
    world.run()
    assert states(world) == ["Completed", "Completed"]
    assert sum(world.trained.values()) == 12 + 12


@pytest.mark.parametrize("during", ["setup", "load"])
def test_only_another_worker_is_waited_for_not_another_checkpoint(during: Any) -> None:
    """A worker of another kind than the plan's reports it before it loads anything."""
    world = World([build_study(space=TWO, retries=0)], workers=1)
    world.engine._failures._options = replace(world.engine.options, keeps_foreign=True)
    while not any(chain.claim.start == 6 for chain in world.engine.chains.values()):
        world.advance()
    error = WorkerError(during=during, message="made elsewhere", step=6)
    world.kill(world.running[0], Outcome.REFUSED, error)
    world.run()
    assert states(world) == ["Completed", "Completed"]
    assert sum(world.trained.values()) == 12 + (12 if during == "load" else 6)


def test_preemption_is_not_charged() -> None:
    world = World([build_study(space={"lr": {"choices": [0.1]}}, retries=0)], workers=1)
    for moment in (2, 4, 6, 8, 10):
        while world.now < moment:
            world.advance()
        world.preempt(world.running[0])
    world.run()
    assert states(world) == ["Completed"]
    assert sum(world.trained.values()) == 12


def test_a_store_that_keeps_failing_halts_the_run() -> None:
    world = World([build_study(space={"lr": {"choices": [0.1]}})], workers=1)
    for _ in range(20):
        if world.halted:
            break
        if world.running:
            world.kill(world.running[0], Outcome.STORE)
        else:
            world.advance()
    assert world.halted == "killed"
    assert states(world) == ["Pending"], "nothing is lost"


def test_a_critical_path_makes_the_shortest_chain_yield() -> None:
    # Two short chains fill both workers; the fork at 2 then opens a long path.
    space = {
        "lr": {
            "choices": [
                {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [2]}},
                {"multistep": {"initial": 0.1, "gamma": 0.5, "milestones": [2]}},
                0.1,
            ]
        }
    }
    world = World([build_study(space=space, steps=20)], workers=2).run()
    assert world.now <= 30, "C* is 28; without yielding it takes 38"
    assert any(isinstance(c, Steer) and c.control.route.stop_at == 0 for c in world.log)


ALL_EVENTS = [*TrialEvent, *StudyEvent, *StageEvent, *WorkerEvent]


@pytest.mark.parametrize("state", [*TrialState, *StudyState, *WorkerState])
@pytest.mark.parametrize("event", ALL_EVENTS)
def test_what_the_table_does_not_list_cannot_happen(state: Any, event: Any) -> None:
    if (state, event) in TRANSITIONS:
        assert type(advance(state, event)) is type(state)
    else:
        with pytest.raises(InvariantViolated):
            advance(state, event)


def test_final_states_have_no_way_out_but_that_a_study_is_reopened() -> None:
    for state in [*TrialState, *StudyState]:
        if state.is_final:
            ways = [event for before, event in TRANSITIONS if before is state]
            assert ways == ([StudyEvent.REOPEN] if isinstance(state, StudyState) else [])
