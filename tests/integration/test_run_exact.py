"""Results through the stage tree are those of training each trial alone, to the last bit, and
every step of every prefix is trained once.
"""

from __future__ import annotations

from typing import Any

import pytest

from hippo.model import Sequence
from tests.integration import oracle
from tests.integration.runs import Place, as_hex

STEPS = 18
SPACE = {
    "lr": [
        0.1,
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [7]}},
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [7, 13]}},
        {"warmup": {"from": 0.0, "steps": 3, "to": 0.1, "then": 0.1}},
        {"cosine": {"initial": 0.1, "final": 0.0, "steps": STEPS}},
    ],
    "momentum": [0.9, {"piecewise": [[0, 0.9], [5, 0.5]]}],
    "batch_size": [8, {"piecewise": [[0, 8], [11, 16]]}],
}
TUNERS: dict[str, dict[str, Any]] = {
    "grid": {"algorithm": {"name": "grid"}},
    "random": {"algorithm": {"name": "random", "seed": 3}, "maxTrials": 12},
    "sha": {"algorithm": {"name": "sha", "seed": 1, "eta": 3, "minSteps": 2}, "maxTrials": 12},
    "asha": {"algorithm": {"name": "asha", "seed": 2, "eta": 2, "minSteps": 4}, "maxTrials": 12},
}
RUNGS = {"grid": [STEPS], "random": [STEPS], "sha": [2, 6, 18], "asha": [4, 8, 16, 18]}
ALL = {"checkpoints": {"retain": "all"}}


def check_against_oracle(
    place: Place,
    trials: list[dict[str, Any]],
    *,
    entrypoint: str = "walk:Walk",
    with_states: bool = True,
    merged: bool = True,
    horizon: int = STEPS,
) -> None:
    """Metrics and states of trials are those of training each alone."""
    assert trials
    asked = [(trial["hyperparameters"], horizon, [trial["steps"]]) for trial in trials]
    for trial, alone in zip(trials, place.ask_oracle(asked, entrypoint=entrypoint), strict=True):
        step = trial["steps"]
        assert as_hex(trial["metrics"]) == alone[step]["metrics"], trial
        if with_states:
            sequence = Sequence.of(trial["hyperparameters"], horizon)
            apart = "" if merged else trial["trial"]
            state = place.load_state(sequence, step, apart=apart)
            assert oracle.digest(state) == alone[step]["state"], trial


def count_unique(trials: list[dict[str, Any]]) -> int:
    """(prefix, step) pairs, by the values at every step."""
    unique = set()
    for trial in trials:
        sequence = Sequence.of(trial["hyperparameters"], STEPS)
        so_far: tuple[Any, ...] = ()
        for step in range(trial["steps"]):
            so_far = (*so_far, tuple(sequence.values(step).items()))
            unique.add(so_far)
    return len(unique)


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_plain_trainer_is_exact_and_trains_every_step_once(place: Place, tuner: str) -> None:
    study = place.study(tuner, SPACE, steps=STEPS, **TUNERS[tuner], **ALL)
    result = place.run(study)
    trials = result["trials"]
    assert {trial["steps"] for trial in trials} <= set(RUNGS[tuner])
    assert {trial["phase"] for trial in trials} <= {"Completed", "Stopped"}
    check_against_oracle(place, trials)
    trained = place.check_nothing_twice()
    assert trained == result["stepsTrained"] == result["stepsUnique"] == count_unique(trials)
    assert result["stepsRequested"] == sum(trial["steps"] for trial in trials)
    assert result["mergeRate"] == result["stepsRequested"] / trained > 1.2


@pytest.mark.parametrize("tuner", TUNERS)
def test_what_is_deleted_on_the_way_is_not_missed(place: Place, tuner: str) -> None:
    """With ``retain: best``, checkpoints go as soon as nobody needs them."""
    result = place.run(place.study(tuner, SPACE, steps=STEPS, **TUNERS[tuner]), workers=3)
    trials = result["trials"]
    check_against_oracle(place, trials, with_states=False)
    assert place.check_nothing_twice() == result["stepsTrained"] == count_unique(trials)
    check_against_oracle(place, [result["best"]])
    assert [m.step for m in place.manifests().values()] == [result["best"]["steps"]]


@pytest.mark.parametrize("tuner", ["grid", "asha"])
def test_trial_by_trial_gives_the_same(place: Place, tuner: str) -> None:
    study = place.study(tuner, SPACE, steps=STEPS, **TUNERS[tuner], **ALL)
    result = place.run("--no-merge", study)
    trials = result["trials"]
    check_against_oracle(place, trials, merged=False)
    assert result["stepsTrained"] == result["stepsRequested"] == len(place.trained())
    assert result["mergeRate"] == 1.0
    assert len(set(place.trained())) == count_unique(trials)


def test_pytorch_is_exact(place: Place) -> None:
    """All tuners over one plan, and two of them again, trial by trial."""
    spec = {
        "steps": STEPS,
        "objective": {"metric": "loss", "goal": "minimize"},
        "trainer": {"entrypoint": "net:Net"},
        **ALL,
    }
    space = {**SPACE, "lr": SPACE["lr"][1:4], "momentum": SPACE["momentum"][1:]}
    studies = {name: place.study(name, space, **spec, **TUNERS[name]) for name in TUNERS}
    merged = place.run(*studies.values())
    trained = place.check_nothing_twice()
    assert merged["stepsTrained"] == trained == count_unique(merged["trials"])
    apart = place.folder / "apart"
    alone = place.run("--no-merge", "--store", apart, studies["grid"], studies["sha"])
    assert alone["stepsTrained"] == alone["stepsRequested"] == len(place.trained()) - trained
    check_against_oracle(place, merged["trials"], entrypoint="net:Net")
    for name in ("grid", "sha"):
        assert decided(merged, name) == decided(alone, name)
    for trial in alone["trials"]:
        sequence, step = Sequence.of(trial["hyperparameters"], STEPS), trial["steps"]
        state = place.load_state(sequence, step, apart=trial["trial"], store=apart)
        assert oracle.digest(state) == oracle.digest(
            place.load_state(sequence, step, store=place.store_folder)
        )


def decided(result: dict[str, Any], study: str) -> list[dict[str, Any]]:
    """Trials without the reasons, which name the order of events."""
    return [
        {key: value for key, value in trial.items() if key != "reason"}
        for trial in result["trials"]
        if trial["study"] == study
    ]
