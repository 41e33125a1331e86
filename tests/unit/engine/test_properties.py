"""In any order of events, each stage is trained once, after its parent, with the same results."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.engine.commands import DeleteCheckpoint, Record
from hippo.engine.events import StudyRemoved
from hippo.lifecycles import StudyState, TrialState
from hippo.model import Study
from tests.world import Costs, World, build_study, train_alone, with_spec

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [9]}},
    {"warmup": {"from": 0, "to": 0.1, "steps": 3, "then": 0.1}},
    {"cosine": {"initial": 0.1, "final": 0, "steps": 12}},
    {"cyclic": {"low": 0.05, "high": 0.1, "up": 2, "down": 1}},
]
BATCH_SIZES: list[Any] = [64, {"piecewise": [[0, 64], [8, 128]]}, {"piecewise": [[0, 64], [3, 32]]}]
ALGORITHMS = [
    {"name": "grid"},
    {"name": "random", "seed": 3},
    {"name": "sha", "eta": 2, "minSteps": 3},
    {"name": "asha", "eta": 2, "minSteps": 3},
    {"name": "hyperband", "eta": 2, "minSteps": 3},
    {"name": "median", "every": 2, "minSteps": 2, "minTrials": 1},
    {"name": "pbt", "population": 2, "interval": 4, "quantile": 0.5},
]
DEPEND_ON_ORDER = {"asha", "median"}
"""Their choices depend on the order of results, by design."""


@st.composite
def studies(draw: st.DrawFn, *, most: int = 3) -> list[Study]:
    """Overlapping studies of one trainer."""
    made = []
    for index in range(draw(st.integers(1, most))):
        space = {
            "lr": {"choices": draw(st.lists(st.sampled_from(LRS), min_size=1, unique_by=str))},
            "bs": {
                "choices": draw(st.lists(st.sampled_from(BATCH_SIZES), min_size=1, unique_by=str))
            },
        }
        algorithm = draw(st.sampled_from(ALGORITHMS))
        if algorithm["name"] == "pbt" and all(len(d["choices"]) == 1 for d in space.values()):
            algorithm = ALGORITHMS[0]
        most_trials = {} if algorithm["name"] == "pbt" else {"maxTrials": draw(st.integers(1, 9))}
        made.append(
            build_study(
                f"s{index}",
                space=space,
                algorithm=algorithm,
                **most_trials,
                replicates=draw(st.sampled_from([0, 0, 1, 2])),
                replicateBest=draw(st.integers(1, 2)),
                priority=draw(st.sampled_from([0, 0, 1])),
                parallelism=draw(st.sampled_from([None, 1, 2])),
                checkpoints={"retain": draw(st.sampled_from(["best", "all", "none"]))},
            )
        )
    return made


@st.composite
def worlds(draw: st.DrawFn, *, most: int = 3) -> World:
    costs = Costs(
        step=draw(st.sampled_from([1.0, 0.7])),
        start=draw(st.sampled_from([0.0, 2.0])),
        load=draw(st.sampled_from([0.0, 0.5])),
        save=draw(st.sampled_from([0.0, 0.3])),
        evaluate=draw(st.sampled_from([0.0, 0.2])),
        linger=draw(st.sampled_from([0.0, 1.0])),
    )
    return World(
        draw(studies(most=most)),
        workers=draw(st.integers(1, 4)),
        costs=costs,
        known_costs=draw(st.booleans()),
    )


def check_results(world: World) -> None:
    """Checks that every study succeeded and every result equals that of the trial trained alone."""
    for run in world.engine.studies.values():
        assert run.state is StudyState.SUCCEEDED, run.message
    check_trials(world)


def check_trials(world: World) -> None:
    """Checks that every trial ended and has no result but those of the trial trained alone."""
    for run in world.engine.studies.values():
        for trial in run.trials:
            assert trial.state in (TrialState.COMPLETED, TrialState.STOPPED)
            assert trial.reason
            for step, metrics in trial.results.items():
                written = dict(trial.sequence.hyperparameters)
                horizon, seed = trial.sequence.steps, trial.seed or 0
                assert metrics == train_alone(written, horizon, step, seed)[1]


@pytest.mark.slow
@settings(max_examples=250)
@given(worlds())
def test_every_step_is_trained_once_and_results_are_exact(world: World) -> None:
    world.run()
    check_results(world)
    specs = [study.spec for study in world.studies]
    if len(specs) == 1 or all(
        spec.algorithm.name in ("grid", "random") and not spec.replicates for spec in specs
    ):
        # Else what one study let go, by a verdict or at its end, another may come to need.
        assert set(world.trained.values()) <= {1}, "some step was trained twice"
    assert world.notices == [], "a checkpoint was missing when it was needed"


@pytest.mark.slow
@settings(max_examples=40)
@given(worlds(most=2), st.integers(1, 3))
def test_routes_that_are_cut_short_change_nothing(world: World, most: int) -> None:
    world.longest_route = most
    world.launches.clear()
    world.start_engine()
    world.run()
    check_results(world)
    for assignment in world.launches:
        route = assignment.route
        assert len({*route.save_at, *route.evaluate_at}) <= most + 1
    if len(world.studies) == 1:
        assert set(world.trained.values()) <= {1}, "some step was trained twice"


@pytest.mark.slow
@settings(max_examples=80)
@given(worlds(), st.integers(0, 2**16))
def test_workers_outlive_their_driver(world: World, seed: int) -> None:
    world.run_with_restarts(random.Random(seed))
    check_results(world)
    specs = [study.spec for study in world.studies]
    if len(specs) == 1 and specs[0].algorithm.name in ("grid", "random"):
        assert set(world.trained.values()) <= {1}, "some step was trained twice"


@pytest.mark.slow
@settings(max_examples=120)
@given(worlds(), st.integers(0, 2**16))
def test_kills_restarts_and_preemptions_change_no_result(world: World, seed: int) -> None:
    check_results(world.run_disturbed(random.Random(seed)))


@pytest.mark.slow
@settings(max_examples=80)
@given(worlds(), st.integers(0, 2**16))
def test_results_that_a_damaged_store_has_lost_keep_no_study_from_its_end(
    world: World, seed: int
) -> None:
    dice = random.Random(seed)
    for _ in range(dice.randrange(5, 150)):
        if world.engine.is_finished or not world.advance():
            break
    for key in list(world.metrics):
        if dice.random() < 0.5:
            del world.metrics[key]
    for key in list(world.checkpoints):
        if dice.random() < 0.2:
            del world.checkpoints[key]
    world.ended.clear()  # as a driver takes it that finds damaged records
    world.start_engine()
    world.run()
    check_trials(world)
    specs = [study.spec for study in world.studies]
    if len(specs) == 1 and specs[0].algorithm.name in ("grid", "sha") and not specs[0].replicates:
        calm = World(world.studies, workers=2).run()
        assert _last_results(world) == _last_results(calm)


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds(), st.sampled_from([None, 0.5, 0.9]), st.integers(0, 2**16))
def test_studies_come_change_and_go_and_stay_as_they_ended(
    world: World, target: float | None, seed: int
) -> None:
    dice = random.Random(seed)
    coming = [_varied(study, dice, target) for study in world.studies]
    world = World([coming.pop(0)], world.workers, world.costs, known_costs=world.known_costs)
    while coming or not world.engine.is_finished:
        what = dice.random()
        if coming and (what < 0.02 or world.engine.is_finished):
            world.add(coming.pop(0))
        elif what < 0.06:
            world.disturb(dice)
        elif what < 0.10:
            _alter(world, dice)
        if not world.advance():
            for study in world.studies:
                if world.engine.studies[study.name].state is StudyState.SUSPENDED:
                    world.change(study.name, suspend=False)
            assert coming or world.engine.is_finished or world.running, "nothing is left to happen"
    check_trials(world)
    for node in world.engine.plan.nodes():
        assert not node.wants
        assert not node.marks
        assert not node.claims
    assert not world.engine.frontier.ready

    before = _ends(world), len(world.launches), {n: len(d) for n, d in world.decisions.items()}
    known = _results(world)
    world.start_engine()
    world.run()
    assert (
        _ends(world),
        len(world.launches),
        {n: len(d) for n, d in world.decisions.items()},
    ) == before
    # What a trial was given at once, known as it was, may now come with what others have measured
    # since on the way there; nothing that the trial had is gone, or another.
    for then, now in zip(known, _results(world), strict=True):
        assert now | then == now
    check_trials(world)


def _varied(study: Study, dice: random.Random, target: float | None) -> Study:
    """A study of another length, so that studies end at different steps; perhaps with a target."""
    objective = study.spec.objective.model_copy(update={"target": target})
    return with_spec(study, steps=dice.choice([9, 12]), objective=objective)


def _alter(world: World, dice: random.Random) -> None:
    """Edits a study, or deletes it."""
    alive = [name for name, run in world.engine.studies.items() if not run.state.is_final]
    if not alive:
        return
    name, what = dice.choice(alive), dice.random()
    if what < 0.1:
        world.feed(StudyRemoved(name))
    elif what < 0.4:
        world.change(name, priority=dice.randint(-1, 1))
    elif what < 0.6:
        world.change(name, parallelism=dice.choice([None, 1, 2]))
    else:
        world.change(name, suspend=not world.engine.studies[name].study.spec.suspend)


def _last_results(world: World) -> object:
    """Returns what is shown of a study; earlier results of a promoted trial need not be
    restored.
    """
    (run,) = world.engine.studies.values()
    best = run.best.index if run.best is not None else None
    return run.state, best, [(trial.state, trial.reason, trial.latest) for trial in run.trials]


def _ends(world: World) -> object:
    """Returns what users see of studies that have ended."""
    return [
        (
            run.state,
            run.message,
            run.best.index if run.best is not None else None,
            [(trial.state, trial.reason, trial.latest) for trial in run.trials],
        )
        for run in world.engine.studies.values()
    ]


def _results(world: World) -> list[dict[int, Any]]:
    """Returns the results of all trials, by step."""
    runs = world.engine.studies.values()
    return [dict(trial.results) for run in runs for trial in run.trials]


@pytest.mark.slow
@settings(max_examples=40)
@given(worlds(most=1), st.integers(0, 2**16))
def test_decisions_do_not_depend_on_faults(world: World, seed: int) -> None:
    dice = random.Random(seed)
    if world.studies[0].spec.algorithm.name in DEPEND_ON_ORDER:
        return
    calm = World(world.studies, workers=2).run()
    while not world.engine.is_finished and world.advance():
        if dice.random() < 0.1:
            world.disturb(dice)
    (name,) = world.engine.studies
    told = [(d.kind, d.trial, d.steps, d.hyperparameters) for d in world.decisions[name]]
    assert sorted(map(str, told)) == sorted(
        str((d.kind, d.trial, d.steps, d.hyperparameters)) for d in calm.decisions[name]
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds())
def test_only_what_is_retained_is_left(world: World) -> None:
    world.run()
    kept = {key for run in world.engine.studies.values() for key in _retained(run)}
    left = set(world.checkpoints)
    assert kept - _gone_before(world) <= left
    if all(run.study.spec.checkpoints.retain != "all" for run in world.engine.studies.values()):
        assert left <= kept


def _gone_before(world: World) -> set[str]:
    """Returns states that were deleted before another study needed them; results outlive them."""
    gone: set[str] = set()
    deleted: set[str] = set()
    for command in world.log:
        if isinstance(command, DeleteCheckpoint):
            deleted.add(command.key)
        elif isinstance(command, Record) and command.decision.kind in ("suggest", "promote"):
            trial = world.engine.studies[command.study].trials[command.decision.trial]
            step = command.decision.steps
            gone |= deleted & {trial.node.at(step).key(step)}
    return gone


def _retained(run: Any) -> set[str]:
    retain = run.study.spec.checkpoints.retain
    if retain == "none" or run.best is None:
        return set()
    trials = run.trials if retain == "all" else [run.best]
    return {
        trial.node.at(max(trial.results)).key(max(trial.results))
        for trial in trials
        if trial.results and max(trial.results) not in trial.marks  # nothing is stored for a mark
    }


@pytest.mark.slow
@settings(max_examples=40)
@given(worlds())
def test_trial_by_trial_execution_gives_the_same_results(world: World) -> None:
    world.run()
    alone = World(world.studies, workers=world.workers, merge=False).run()
    check_results(alone)
    for name, run in alone.engine.studies.items():
        if run.study.spec.algorithm.name in ("grid", "random"):
            merged = world.engine.studies[name].trials
            assert [t.results for t in run.trials] == [t.results for t in merged]
            assert sum(t.target for t in run.trials) > 0


@pytest.mark.slow
@settings(max_examples=40)
@given(worlds(), st.integers(0, 2**16))
def test_the_engine_is_deterministic(world: World, seed: int) -> None:
    again = World(
        world.studies, workers=world.workers, costs=world.costs, known_costs=world.known_costs
    )
    assert world.run().log == again.run().log


@pytest.mark.slow
@settings(max_examples=30)
@given(worlds())
def test_a_finished_run_starts_no_worker_again(world: World) -> None:
    world.run()
    before = len(world.launches)
    world.start_engine()
    world.run()
    assert len(world.launches) == before
    check_results(world)
