"""Both sides of a comparison train the same trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.model import Study
from hippo.plan import Overheads
from hippo.protocol.decisions import Decision
from hippo.simulate import Pace, Simulation, SimulationOptions, compare
from hippo.tune import create_tuner
from hippo.views.plan_preview import analyse
from tests.unit.engine.test_properties import studies
from tests.unit.simulate.test_simulation import synthetic, verdicts
from tests.world import build_study

PREFIX_FIRST: list[dict[str, Any]] = [{"late": 0}, {}, {"weight": 3, "candidates": 4}]
DRAWING: list[dict[str, Any]] = [
    {"name": "random"},
    {"name": "sha", "eta": 2, "minSteps": 3},
    {"name": "asha", "eta": 2, "minSteps": 3},
    {"name": "hyperband", "eta": 2, "minSteps": 3},
    {"name": "median", "every": 2, "minTrials": 1},
]
LATE = {
    "multistep": {
        "initial": {"uniform": {"low": 0.01, "high": 1, "log": True}},
        "gamma": {"choices": [0.1, 0.5]},
        "milestones": {"choices": [[4], [8], [10]]},
    }
}
SPACE: dict[str, Any] = {
    "lr": {"choices": [0.1, LATE]},
    "batch": {"choices": [16, 64, {"piecewise": [[0, 16], [6, 32]]}]},
}
OPTIONS = st.builds(
    SimulationOptions,
    workers=st.integers(1, 5),
    pace=st.builds(Pace, noise=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 3)),
    overheads=st.builds(
        Overheads,
        start=st.sampled_from([0.0, 2.0]),
        load=st.sampled_from([0.0, 0.5]),
        save=st.sampled_from([0.0, 0.3]),
        evaluate=st.sampled_from([0.0, 0.2]),
    ),
)


def made(decisions: Mapping[str, list[Decision]]) -> dict[str, Any]:
    return {name: verdicts(of_study) for name, of_study in decisions.items()}


def reasons(decisions: list[Decision]) -> dict[Any, str]:
    """Returns the reasons of the tuner's verdicts."""
    return {
        (d.trial, d.kind, d.steps): d.reason
        for d in decisions
        if d.seed is None and not d.reason.startswith(("the study ended", "a replicate"))
    }


def drawn(simulation: Simulation) -> list[Any]:
    (of_study,) = simulation.decisions.values()
    return [d.hyperparameters for d in of_study if d.kind == "suggest" and d.seed is None]


@pytest.mark.slow
@given(studies(most=2), OPTIONS)
@settings(max_examples=25)
def test_trial_by_trial_decides_as_the_stage_tree(
    several: list[Study], options: SimulationOptions
) -> None:
    found = compare(several, synthetic(*several), options)
    assert made(found.alone.decisions) == made(found.tree.decisions)
    for name, decisions in found.alone.decisions.items():
        if found.tree.engine.studies[name].tuner.by_order is not None:
            assert reasons(decisions) == reasons(found.tree.decisions[name])


@pytest.mark.slow
@given(st.sampled_from(DRAWING), st.sampled_from([None, *PREFIX_FIRST]), st.integers(0, 9), OPTIONS)
@settings(max_examples=25)
def test_draws_depend_neither_on_merging_nor_on_time(
    algorithm: dict[str, Any],
    prefix_first: dict[str, Any] | None,
    seed: int,
    options: SimulationOptions,
) -> None:
    written = {**algorithm, "seed": seed}
    if prefix_first is not None:
        written["prefixFirst"] = prefix_first
    study = build_study(space=SPACE, algorithm=written, maxTrials=12)
    curves = synthetic(study)
    plain = SimulationOptions(1)
    runs = [
        Simulation([study], curves, replace(given, merge=merge)).run()
        for given, merge in ((plain, True), (options, True), (options, False))
    ]
    assert drawn(runs[0]) == drawn(runs[1]) == drawn(runs[2])
    planned = [trial.hyperparameters for trial in analyse([study]).trials]
    assert drawn(runs[0]) == planned  # by ``hippo plan``


@pytest.mark.slow
@pytest.mark.parametrize("prefix_first", [None, {"candidates": 3}])
@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "qmc"])
def test_optuna_draws_alike_on_one_worker_and_is_followed_on_several(
    sampler: str, prefix_first: dict[str, Any] | None
) -> None:
    algorithm: dict[str, Any] = {"name": "optuna", "sampler": sampler}
    if prefix_first is not None:
        algorithm["prefixFirst"] = prefix_first
    study = build_study(space=SPACE, algorithm=algorithm, maxTrials=14)
    curves = synthetic(study)
    merged, apart = (
        Simulation([study], curves, SimulationOptions(1, merge=merge)).run()
        for merge in (True, False)
    )
    assert drawn(merged) == drawn(apart)
    found = compare([study], curves, SimulationOptions(3, Pace(noise=0.5)))
    assert made(found.alone.decisions) == made(found.tree.decisions)


@pytest.mark.parametrize("algorithm", [DRAWING[2], DRAWING[4]], ids=lambda a: str(a["name"]))
def test_what_is_followed_ends_where_the_other_ended(algorithm: dict[str, Any]) -> None:
    """It trains up to the target, and no trial beyond."""
    study = build_study(space=SPACE, algorithm=algorithm, maxTrials=12)
    whole = Simulation([study], synthetic(study), SimulationOptions(3)).run()
    values = [r["score"] for t in whole.engine.studies["s"].trials for r in t.results.values()]
    objective = {"metric": "score", "goal": "maximize", "target": sorted(values)[-4]}
    study = build_study(space=SPACE, algorithm=algorithm, maxTrials=12, objective=objective)
    found = compare([study], synthetic(study), SimulationOptions(3))
    tree, alone = (side.engine.studies["s"] for side in (found.tree, found.alone))
    assert "reached the target" in tree.message
    assert "reached the target" in alone.message
    assert len(alone.trials) <= len(tree.trials)


@pytest.mark.slow
def test_a_record_that_breaks_off_is_followed_to_an_end() -> None:
    study = build_study(space=SPACE, algorithm=DRAWING[2], maxTrials=12)
    whole = Simulation([study], synthetic(study), SimulationOptions(3)).run()
    for length in range(1, len(whole.decisions["s"])):
        followed = {"s": tuple(whole.decisions["s"][:length])}
        options = SimulationOptions(2, merge=False, followed=followed)
        part = Simulation([study], synthetic(study), options).run()
        assert part.engine.studies["s"].state == whole.engine.studies["s"].state
        assert len(drawn(part)) == sum(d.kind == "suggest" for d in followed["s"])


def test_every_algorithm_says_whether_it_depends_on_order() -> None:
    optuna = [{"name": "optuna", "sampler": name} for name in ("tpe", "gp", "cmaes", "qmc")]
    said = {}
    for algorithm in [*DRAWING, *optuna, {"name": "pbt", "population": 4, "interval": 4}]:
        most: dict[str, Any] = {} if algorithm["name"] == "pbt" else {"maxTrials": 9}
        study = build_study(space=SPACE, algorithm=algorithm, **most)
        said[algorithm.get("sampler", algorithm["name"])] = create_tuner(study).by_order
    assert {name for name, what in said.items() if what} == {"asha", "median", "tpe", "gp", "cmaes"}
    assert said["asha"] == "which trials go on"
    assert said["tpe"] == "which points tpe draws"
