"""Spelling suggestions and plurals in messages."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import InvalidSpec, parse_study
from hippo.model.words import closest, counted, did_you_mean, on_one_line, with_article

STUDY: dict[str, Any] = {
    "apiVersion": "hippo.dev/v1alpha1",
    "kind": "Study",
    "metadata": {"name": "a"},
    "spec": {
        "objective": {"metric": "loss", "goal": "minimize"},
        "steps": 6,
        "space": {"lr": {"choices": [0.1, 0.2]}},
        "algorithm": {"name": "grid"},
        "trainer": {"entrypoint": "t:T"},
    },
}


def complaint(path: str, value: Any) -> str:
    document = copy.deepcopy(STUDY)
    place = document
    *above, last = path.split(".")
    for part in above:
        place = place[part]
    place[last] = value
    with pytest.raises(InvalidSpec) as caught:
        parse_study(document)
    return str(caught.value)


LOG = "write {uniform: {low: ..., high: ..., log: true}}"
INT = "write {int: {low: ..., high: ...}}, high included"


@pytest.mark.parametrize(
    ("path", "value", "ending"),
    [
        # Domains of Optuna, Ray Tune, Hyperopt, Katib.
        ("spec.space.lr", {"loguniform": {"low": 1, "high": 2}}, LOG),
        ("spec.space.lr", {"tune.loguniform": [1, 2]}, LOG),
        ("spec.space.lr", {"log_uniform": [1, 2]}, LOG),
        ("spec.space.lr", {"type": "loguniform", "min": 1, "max": 2}, LOG),
        ("spec.space.lr", {"randint": [1, 2]}, INT),
        ("spec.space.lr", {"integer": [1, 2]}, INT),
        ("spec.space.lr", {"hp.choice": [1, 2]}, "write {choices: [...]}"),
        ("spec.space.lr", {"suggest_categorical": [1]}, "write {choices: [...]}"),
        ("spec.space.lr", {"suggest_float": [1]}, "write {uniform: {low: ..., high: ...}}"),
        ("spec.space.lr", {"quniform": [1]}, "or for integers {int: {low, high, step}}"),
        ("spec.space.lr", {"normal": [1]}, "there is no normal distribution"),
        ("spec.space.lr", {"uniforn": [1]}, "did you mean uniform?"),
        ("spec.space.lr", {"low": 1, "high": 2}, "write {uniform: {low: ..., high: ...}}"),
        ("spec.space.lr", {"uniform": [1, 2]}, "write {low: 1, high: 2}"),
        ("spec.space.lr", {"uniform": {"low": 1, "high": 2, "q": 1}}, "use int, or choices"),
        ("spec.space.lr", {"uniform": {"low": 1, "high": 2}, "log": True}, "put log below uniform"),
        ("spec.space.lr", {"choices": [{"piecewise": [[0, {"loguniform": {}}]]}]}, LOG),
        ("spec.space.lr", {"choices": [{"piecewise": [[0, 1], [{"randint": 2}, 1]]}]}, INT),
        # Algorithms.
        ("spec.algorithm.name", "tpe", "write {name: optuna, sampler: tpe}"),
        ("spec.algorithm.name", "TPESampler", "write {name: optuna, sampler: tpe}"),
        ("spec.algorithm", "tpe", "write {name: optuna, sampler: tpe}"),
        ("spec.algorithm.name", "bayesian", "or {name: optuna, sampler: gp}"),
        ("spec.algorithm.name", "CMA-ES", "write {name: optuna, sampler: cmaes}"),
        ("spec.algorithm.name", "asynchyperband", "write {name: asha, minSteps: ...}"),
        ("spec.algorithm.name", "AsyncHyperBandScheduler", "write {name: asha, minSteps: ...}"),
        ("spec.algorithm.name", "grid_search", "write {name: grid}"),
        ("spec.algorithm.name", "PopulationBasedTraining", "population: ..., interval: ...}"),
        ("spec.algorithm.name", "gird", "did you mean grid?"),
        ("spec.algorithm", {"name": "optuna", "sampler": "TPE"}, "did you mean tpe?"),
        # Schedules, and their fields.
        ("spec.space.lr.choices", [{"CosineAnnealingLR": {}}], "{cosine: {initial, final, steps}}"),
        ("spec.space.lr.choices", [{"StepLR": {}}], "write {step: {initial, gamma, every}}"),
        ("spec.space.lr.choices", [{"LinearLR": {}}], "did you mean linear?"),
        ("spec.space.lr.choices", [{"ReduceLROnPlateau": {}}], "cannot depend on results"),
        ("spec.space.lr.choices", [{"exponental": {}}], "did you mean exponential?"),
        ("spec.space.lr.choices", [{"cosine": {"T_max": 1}}], "did you mean steps?"),
        ("spec.space.lr.choices", [{"cosine": {"finl": 1}}], "did you mean final?"),
        # Fields of a study: misspelt, in another place, of other systems.
        ("spec.paralelism", 1, "did you mean parallelism?"),
        ("spec.max_trails", 1, "did you mean maxTrials?"),
        ("spec.num_samples", 1, "did you mean maxTrials?"),
        ("spec.seed", 1, "did you mean spec.trainer.seed?"),
        ("steps", 1, "did you mean spec.steps?"),
        ("spec.trainer.steps", 1, "did you mean spec.steps?"),
        ("spec.objective.direction", "minimize", "did you mean goal?"),
        ("spec.objective.goal", "min", "did you mean minimize?"),
        ("spec.checkpoints", {"retain": "bset"}, "did you mean best?"),
        ("kind", "study", "did you mean Study?"),
    ],
)
def test_it_says_what_was_probably_meant(path: str, value: Any, ending: str) -> None:
    assert any(line.endswith(ending) for line in complaint(path, value).splitlines())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.foo", 1),
        ("spec.space.lr", {"foo": 1}),
        ("spec.space.lr.choices", [{"foo": 1}]),
        ("spec.algorithm.name", "foo"),
        ("spec.algorithm.name", ["tpe"]),
    ],
)
def test_where_nothing_is_alike_nothing_is_suggested(path: str, value: Any) -> None:
    assert "did you mean" not in complaint(path, value)
    assert "write" not in complaint(path, value)


@given(st.text(max_size=300), st.lists(st.text(max_size=20), max_size=5))
def test_a_suggestion_is_a_known_name(name: str, known: list[str]) -> None:
    found = closest(name, known)
    assert found is None or found in known


def test_words() -> None:
    assert counted(1, "step") == "1 step"
    assert counted(0, "step") == "0 steps"
    assert counted(2, "study", "studies") == "2 studies"
    for noun in ("object", "ndarray", "int"):
        assert with_article(noun) == f"an {noun}"
    for noun in ("list", "uint8", "numpy.ndarray", "Generator"):
        assert with_article(noun) == f"a {noun}"
    assert on_one_line("a\nb\x1b[0m") == "a\\nb\\x1b[0m"
    assert did_you_mean("best", ["best"]) == ""
