"""Optuna's samplers: their results, what they are told, and that they leave no trace."""

from __future__ import annotations

import inspect
import pickle
import statistics
from typing import Any

import optuna
import pytest

from hippo.model import InvalidSpec, Space, canonical_json, parse_study
from hippo.model.algorithms import SAMPLER_SETTINGS
from hippo.tune import Result, Tuner, create_tuner, optuna_sampler
from tests.unit.tune.simulation import Simulation, make_study

PLANE: dict[str, Any] = {
    "x": {"uniform": {"low": -5, "high": 10}},
    "y": {"uniform": {"low": 0, "high": 15}},
}
NESTED: dict[str, Any] = {
    "lr": {
        "choices": [
            {"uniform": {"low": 0.01, "high": 0.3, "log": True}},
            {"cosine": {"initial": {"uniform": {"low": 0.1, "high": 0.9}}, "final": 0, "steps": 9}},
            {"multistep": {"initial": 0.5, "gamma": {"choices": [0.1, 0.2]}, "milestones": [3]}},
        ]
    },
    "width": {"int": {"low": 8, "high": 130, "step": 8, "log": True}},
    "depth": {"int": {"low": 1, "high": 9}},
    "wd": {"uniform": {"low": 1e-5, "high": 1e-2, "log": True}},
    "only": {"choices": [3]},
}
SAMPLERS = ("tpe", "gp", "cmaes", "qmc")


def bowl(x: float, y: float) -> float:
    """A function with its minimum at (3.3, 4.4)."""
    return (x - 3.3) ** 2 + (y - 4.4) ** 2


def minimise(algorithm: dict[str, Any], trials: int) -> float:
    """Returns the regret after this many sequential trials."""
    tuner = create_tuner(make_study(algorithm, space=PLANE, max_trials=trials, goal="minimize"))
    best = float("inf")
    while not tuner.finished:
        for decision in tuner.decide(1):
            tuner.apply(decision)
            assert decision.hyperparameters is not None
            value = bowl(**decision.hyperparameters)
            best = min(best, value)
            tuner.tell(Result(decision.trial, 27, value))
    return best


def named(sampler: str, **settings: Any) -> dict[str, Any]:
    return {"name": "optuna", "sampler": sampler, "settings": settings}


def told(space: dict[str, Any], sampler: str, trials: int, **settings: Any) -> Tuner:
    """Returns a tuner that was told some results."""
    tuner = create_tuner(make_study(named(sampler, **settings), space=space, max_trials=99))
    for trial in range(trials):
        (decision,) = tuner.decide(1)
        tuner.apply(decision)
        tuner.tell(Result(trial, 27, (trial * 7) % 11 if trial % 5 else None))
    return tuner


def assembled(space: Space, coordinates: dict[str, Any]) -> dict[str, Any]:
    return space.assemble(lambda dimension: coordinates[dimension.path])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_finds_better_points_than_chance(sampler: str) -> None:
    seeds = range(7)
    chance = [minimise({"name": "random", "seed": seed}, 40) for seed in seeds]
    found = [minimise({**named(sampler), "seed": seed}, 40) for seed in seeds]
    assert statistics.median(found) < statistics.median(chance)


@pytest.mark.slow
def test_gp_finds_better_points_than_chance_with_half_the_trials() -> None:
    chance = [minimise({"name": "random", "seed": seed}, 40) for seed in range(7)]
    found = [minimise({**named("gp"), "seed": seed}, 18) for seed in range(3)]
    assert statistics.median(found) < statistics.median(chance)


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        ("tpe", {"n_startup_trials": 4}),
        ("tpe", {"n_startup_trials": 4, "multivariate": True, "group": True}),
        pytest.param(
            "gp",
            {"n_startup_trials": 6, "deterministic_objective": True},
            marks=pytest.mark.slow,
        ),
        ("cmaes", {"popsize": 4}),
        ("cmaes", {"popsize": 4, "use_separable_cma": True}),
        ("cmaes", {"popsize": 4, "lr_adapt": True}),
        ("qmc", {"qmc_type": "halton"}),
        ("qmc", {"scramble": False}),
    ],
)
def test_copes_with_choices_within_choices(sampler: str, settings: dict[str, Any]) -> None:
    study = make_study(named(sampler, **settings), space=NESTED, max_trials=10)
    decisions = Simulation(study, lambda trial, step: trial / 10 if trial % 4 else None).run()
    space = Space.of(NESTED, 27)
    for decision in decisions.decisions:
        assert decision.hyperparameters is not None
        point = decision.hyperparameters
        assert assembled(space, space.coordinates(point)) == point
        assert point["width"] % 8 == 0
        assert point["only"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp"])
def test_learns_from_results(sampler: str) -> None:
    def suggested(sign: int) -> object:
        study = make_study(named(sampler, n_startup_trials=3), space=PLANE, max_trials=99)
        leader, tuner = create_tuner(study), create_tuner(study)  # the same points, other results
        for trial in range(12 if sampler == "cmaes" else 4):
            (decision,) = leader.decide(1)
            leader.apply(decision)
            tuner.apply(decision)
            leader.tell(Result(trial, 27, float(trial)))
            tuner.tell(Result(trial, 27, float(sign * trial)))
        return tuner.decide(1)[0].hyperparameters

    assert suggested(1) != suggested(-1)


@pytest.mark.slow
def test_cmaes_waits_for_the_results_of_all_earlier_trials() -> None:
    def tuner_with(results: list[int]) -> Tuner:
        study = make_study(named("cmaes", popsize=4), space=PLANE, max_trials=99)
        tuner, reference = create_tuner(study), told(PLANE, "cmaes", 12, popsize=4)
        for trial in range(12):
            point = reference._points[trial]  # type: ignore[attr-defined]
            decision = tuner.decide(1)[0].model_copy(update={"hyperparameters": point})
            tuner.apply(decision)
        for trial in results:
            tuner.tell(Result(trial, 27, float(trial)))
        return tuner

    # Without trial 0's result the others are of no account yet; with it they all are.
    assert tuner_with([*range(1, 12)]).decide(1)[0].hyperparameters == (
        tuner_with([]).decide(1)[0].hyperparameters
    )
    assert tuner_with([*range(12)]).decide(1) == tuner_with([*range(11, -1, -1)]).decide(1)
    assert tuner_with([*range(12)]).decide(1)[0].hyperparameters != (
        tuner_with([]).decide(1)[0].hyperparameters
    )


def test_cmaes_forgets_nothing_that_matters() -> None:
    """The replay keeps only its end; the optimizer's state is as if it had seen everything."""
    tuner = told(PLANE, "cmaes", 30, popsize=4, n_startup_trials=6)
    cut, whole = tuner._source, told(PLANE, "cmaes", 0, popsize=4, n_startup_trials=6)._source  # type: ignore[attr-defined]
    whole._known, whole._least = cut._known, 1000
    for source in (cut, whole):
        source.point(30, 0, tuner._values, set())  # type: ignore[attr-defined]
    assert len(cut._told) < 15
    assert len(whole._told) == 30
    assert list(mean_of(cut._told)) == list(mean_of(whole._told)) != [0.5, 0.5]


def mean_of(trials: list[optuna.trial.FrozenTrial]) -> Any:
    """Returns the mean of the optimizer carried by the last trial with one."""
    states = [
        "".join(value for name, value in trial.system_attrs.items() if "optimizer" in name)
        for trial in trials
    ]
    return pickle.loads(bytes.fromhex(next(filter(None, reversed(states))))).mean


def test_several_workers_are_not_sent_to_one_place() -> None:
    tuner = told(PLANE, "tpe", 30)
    points = []
    for _ in range(4):
        (decision,) = tuner.decide(4)
        tuner.apply(decision)
        assert decision.hyperparameters is not None
        points.append(canonical_json(decision.hyperparameters))
    assert len(set(points)) == 4


@pytest.mark.slow
def test_qmc_is_a_sequence_that_fills_the_space_evenly() -> None:
    simulation = Simulation(make_study(named("qmc"), space=PLANE, max_trials=16)).run()
    points = [decision.hyperparameters or {} for decision in simulation.decisions]
    assert sorted(int((point["x"] + 5) / 15 * 16) for point in points) == [*range(16)]
    assert sorted(int(point["y"] / 15 * 16) for point in points) == [*range(16)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_further_candidates_are_other_draws(sampler: str) -> None:
    tuner = told(PLANE, sampler, 5)
    points = [canonical_json(tuner._candidate(5, attempt)) for attempt in range(4)]
    assert len(set(points)) == 4
    assert [canonical_json(tuner._candidate(5, attempt)) for attempt in range(4)] == points


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_says_nothing_and_changes_no_setting(
    sampler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    told(PLANE, sampler, 8, **({} if sampler == "qmc" else {"n_startup_trials": 4}))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_settings_are_keywords_of_the_samplers() -> None:
    samplers = optuna.samplers
    for name, sampler in {
        "tpe": samplers.TPESampler,
        "gp": samplers.GPSampler,
        "cmaes": samplers.CmaEsSampler,
        "qmc": samplers.QMCSampler,
    }.items():
        assert SAMPLER_SETTINGS[name].keys() <= inspect.signature(sampler).parameters.keys()


@pytest.mark.parametrize(
    ("algorithm", "line"),
    [
        (
            named("tpe", gamma=3),
            "spec.algorithm.settings.gamma: tpe has no such setting; known: constant_liar, group,"
            " multivariate, n_ei_candidates, n_startup_trials",
        ),
        (named("gp", n_startup_trials=0), "settings.n_startup_trials: must be at least 1"),
        (named("cmaes", lr_adapt=1), "settings.lr_adapt: must be true or false, not 1"),
        (named("cmaes", popsize=1), "settings.popsize: must be at least 2"),
        (named("qmc", qmc_type="latin"), "settings.qmc_type: must be sobol | halton, not the text"),
        (named("tpe", group=True), "settings.group: needs multivariate: true"),
        (named("nsga"), "spec.algorithm.sampler: "),
    ],
)
def test_wrong_settings_are_told_with_their_path(algorithm: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        make_study(algorithm)
    assert line in str(caught.value)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(optuna_sampler._NEEDS, "gp", ("optuna", "not_to_be_found"))
    with pytest.raises(InvalidSpec) as caught:
        create_tuner(make_study(named("gp")))
    assert str(caught.value) == (
        "spec.algorithm.sampler: gp needs not_to_be_found: pip install 'hippo-tuner[optuna,torch]'"
    )


def test_a_study_survives_being_written_and_read() -> None:
    study = make_study(named("cmaes", popsize=6), space=PLANE, max_trials=5)
    assert parse_study(study.model_dump(mode="json", by_alias=True, exclude_none=True)) == study
