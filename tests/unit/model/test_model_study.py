"""The study model: defaults, and one clear message for every wrong field."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.model import (
    AlgorithmSettings,
    Asha,
    Grid,
    InvalidSpec,
    Random,
    Study,
    editable_changes,
    parse_study,
)

DOCUMENT: dict[str, Any] = {
    "apiVersion": "hippo.dev/v1alpha1",
    "kind": "Study",
    "metadata": {"name": "digits"},
    "spec": {
        "objective": {"metric": "accuracy", "goal": "maximize"},
        "steps": 120,
        "space": {"lr": {"choices": [0.1, {"exponential": {"initial": 0.1, "gamma": 0.95}}]}},
        "algorithm": {"name": "grid"},
        "trainer": {"entrypoint": "trainer:DigitsTrainer"},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Returns the document with one field set, or removed if ``...``; fields are separated by
    dots.
    """
    document = copy.deepcopy(DOCUMENT)
    place = document
    *outer, last = path.split(".")
    for part in outer:
        place = place.setdefault(part, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def refusal(document: Any) -> str:
    with pytest.raises(InvalidSpec) as caught:
        parse_study(document)
    return str(caught.value)


def test_defaults() -> None:
    study = parse_study(DOCUMENT)
    spec = study.spec
    assert study.name == "digits"
    assert isinstance(spec.algorithm, Grid)
    assert spec.max_trials is None
    assert (spec.max_failed_trials, spec.retries, spec.priority, spec.suspend) == (3, 3, 0, False)
    assert spec.parallelism is None
    assert (spec.trainer.threads, spec.trainer.seed, spec.trainer.exactness) == (1, 0, "strict")
    assert spec.checkpoints.retain == "best"
    assert (spec.checkpoints.every_seconds, spec.checkpoints.ttl_seconds) == (600, 7 * 86400)
    assert (spec.budget.worker_hours, spec.budget.wall_seconds) == (None, None)
    assert study.search_space() is study.search_space()
    assert study.search_space().size == 2


def test_a_full_study() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["status"] = {"phase": "Running"}
    document["metadata"] |= {"uid": "u", "resourceVersion": "1", "labels": {"team": "a"}}
    document["spec"] |= {
        "algorithm": {"name": "asha", "eta": 4.0, "minSteps": 10, "seed": 7},
        "maxTrials": 48.0,
        "parallelism": 4,
        "priority": -1,
        "budget": {"workerHours": 0.5, "wallTime": "1h30m"},
        "checkpoints": {"retain": "all", "every": "90s", "ttl": "0s"},
    }
    document["spec"]["objective"]["target"] = 0.99
    document["spec"]["trainer"] |= {
        "config": {"depth": 3, "layers": [{"width": 8.5}], "note": None},
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "podTemplate": {"spec": {"nodeSelector": {"a": "b"}}},
        "maxGrace": "1.5m",
    }
    study = parse_study(document)
    assert study.spec.algorithm == Asha(eta=4, min_steps=10, seed=7)
    assert study.spec.max_trials == 48
    assert isinstance(study.spec.max_trials, int)
    assert study.spec.budget.wall_seconds == 5400
    assert study.spec.trainer.max_grace_seconds == 90
    again = json.loads(study.model_dump_json())
    algorithm = {"name": "asha", "eta": 4, "minSteps": 10, "seed": 7, "prefixFirst": None}
    assert again["spec"]["algorithm"] == algorithm
    assert parse_study(again) == study


@pytest.mark.parametrize(
    ("written", "limit"),
    [(None, None), ("90s", 90.0), ("1h30m", 5400.0), ("0.5s", 0.5), ("36500d", None)],
)
def test_the_limit_of_a_step(written: str | None, limit: float | None) -> None:
    study = parse_study(changed("spec.trainer.stepTimeout", written) if written else DOCUMENT)
    assert study.spec.trainer.step_timeout_seconds == limit


def test_a_study_cannot_be_changed() -> None:
    study = parse_study(DOCUMENT)
    with pytest.raises(ValueError, match="frozen"):
        study.spec.steps = 3  # type: ignore[misc]


GPU = {"choices": [0.1, {"cosine": {"initial": 1, "final": 0, "steps": 0}}]}
DURATION = 'must be a duration such as "90s", "10m", "24h" or "7d", not '
KNOWN = ", ".join(sorted(AlgorithmSettings.NAMED))

WRONG = [
    ("apiVersion", "v1", 'apiVersion: must be hippo.dev/v1alpha1, not the text "v1"'),
    ("kind", ..., "kind: is missing"),
    ("kind", "Trial", 'kind: must be Study, not the text "Trial"'),
    ("metadata.name", "Digits_1",
     "metadata.name: must consist of lower-case letters, digits and '-', and begin and end with a "
     'letter or digit, unlike the text "Digits_1"'),
    ("metadata.name", "a" * 53, "metadata.name: must have at most 52 characters, not 53"),
    ("metadata.name", 3, "metadata.name: must be text, not 3; put it in quotes"),
    ("metadata.nmae", "x", "metadata.nmae: unknown field; did you mean name?"),
    ("spec.foo", 1, "spec.foo: unknown field"),
    ("spec.max_trial", 1, "spec.max_trial: unknown field; did you mean maxTrials?"),
    ("spec", [], "spec: must be a mapping, not a list"),
    ("spec.objective.metric", ..., "spec.objective.metric: is missing"),
    ("spec.objective.metric", " ", "spec.objective.metric: is empty"),
    ("spec.objective.goal", "max",
     'spec.objective.goal: must be maximize or minimize, not the text "max"; did you mean '
     "maximize?"),
    ("spec.objective.target", "0.9", 'spec.objective.target: must be a number, not the text "0.9"'),
    ("spec.objective.target", float("inf"), "spec.objective.target: must be finite, not inf"),
    ("spec.steps", 0, "spec.steps: must be at least 1"),
    ("spec.steps", 1.5, "spec.steps: must be an integer, not 1.5"),
    ("spec.steps", True, "spec.steps: must be a number, not true"),
    ("spec.steps", 10**13, "spec.steps: must be at most 1000000000000"),
    ("spec.space.lr", GPU, "spec.space.lr.choices[1].cosine.steps: must be at least 1"),
    ("spec.space.lr", {"uniform": {"low": 0, "high": 1}},
     "spec.space.lr: is continuous, so that grid cannot enumerate it; list choices instead, or "
     "use another algorithm, such as random"),
    ("spec.algorithm", "grid",
     'spec.algorithm: must be a mapping with a name, not the text "grid"; write {name: grid}'),
    ("spec.algorithm", {}, f"spec.algorithm.name: is missing; known: {KNOWN}"),
    ("spec.algorithm.name", "hyper",
     f"spec.algorithm.name: unknown algorithm 'hyper'; known: {KNOWN}; did you mean hyperband?"),
    ("spec.algorithm.eta", 3, "spec.algorithm.eta: unknown field"),
    ("spec.algorithm", {"name": "sha"}, "spec.algorithm.minSteps: is missing"),
    ("spec.algorithm", {"name": "sha", "minSteps": 121, "eta": 1},
     "spec.algorithm.eta: must be at least 2"),
    ("spec.algorithm", {"name": "sha", "minSteps": 121},
     "spec.algorithm.minSteps: must be at most spec.steps (120), not 121"),
    ("spec.algorithm", {"name": "asha", "minSteps": 0},
     "spec.algorithm.minSteps: must be at least 1"),
    ("spec.maxTrials", 0, "spec.maxTrials: must be at least 1"),
    ("spec.maxFailedTrials", -1, "spec.maxFailedTrials: must be at least 0"),
    ("spec.parallelism", "4", 'spec.parallelism: must be a number, not the text "4"'),
    ("spec.priority", 0.5, "spec.priority: must be an integer, not 0.5"),
    ("spec.suspend", "no", 'spec.suspend: must be true or false, not the text "no"'),
    ("spec.budget", 3, "spec.budget: must be a mapping, not 3"),
    ("spec.budget.workerHours", 0, "spec.budget.workerHours: must be greater than 0"),
    ("spec.trainer.stepTimeout", "0s", "spec.trainer.stepTimeout: must be longer than nothing"),
    ("spec.trainer.stepTimeout", 60, "spec.trainer.stepTimeout: " + DURATION + "60"),
    ("spec.budget.wallTime", 1440, "spec.budget.wallTime: " + DURATION + "1440"),
    ("spec.budget.wallTime", "24:00", "spec.budget.wallTime: " + DURATION + 'the text "24:00"'),
    ("spec.trainer", ..., "spec.trainer: is missing"),
    ("spec.trainer.entrypoint", "trainer.py",
     'spec.trainer.entrypoint: must be "module:Class", not the text "trainer.py"'),
    ("spec.trainer.config", [], "spec.trainer.config: must be a mapping, not a list"),
    ("spec.trainer.config", {"a": {"b": [0, float("nan")]}},
     "spec.trainer.config.a.b[1]: must be finite, not nan"),
    ("spec.trainer.config", {1: 2}, "spec.trainer.config: keys must be text, not 1"),
    ("spec.trainer.seed", None, "spec.trainer.seed: must be a number, not null"),
    ("spec.trainer.threads", 0, "spec.trainer.threads: must be at least 1"),
    ("spec.trainer.version", 2, "spec.trainer.version: must be text, not 2; put it in quotes"),
    ("spec.trainer.exactness", "loose",
     'spec.trainer.exactness: must be strict or relaxed, not the text "loose"'),
    ("spec.checkpoints.retain", "some",
     'spec.checkpoints.retain: must be best, all or none, not the text "some"'),
    ("spec.checkpoints.every", "0s", "spec.checkpoints.every: must be longer than nothing"),
    ("metadata.namespace", "Team/A",
     "metadata.namespace: must have at most 63 lower-case letters, digits and '-', and begin and "
     'end with a letter or digit, unlike the text "Team/A"'),
    ("spec.checkpoints.ttl", "7", "spec.checkpoints.ttl: " + DURATION + 'the text "7"'),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_one_line_for_every_wrong_field(path: str, value: Any, message: str) -> None:
    assert refusal(changed(path, value)) == message


def test_all_problems_are_told_at_once() -> None:
    document = changed("spec.steps", 0)
    document["spec"]["space"]["lr"] = GPU
    document["spec"]["trainer"] = {"entrypoint": 3}
    document["kind"] = None
    assert refusal(document).splitlines() == [
        "kind: must be Study, not null",
        "spec.steps: must be at least 1",
        "spec.space.lr.choices[1].cosine.steps: must be at least 1",
        "spec.trainer.entrypoint: must be text, not 3; put it in quotes",
    ]


@pytest.mark.parametrize("document", [None, 3, "study", []])
def test_a_study_is_a_mapping(document: Any) -> None:
    assert refusal(document).startswith("a study must be a mapping, not ")


def test_sampling_a_continuous_space_needs_an_end() -> None:
    document = changed("spec.space.lr", {"uniform": {"low": 0, "high": 1}})
    document["spec"]["algorithm"] = {"name": "random"}
    assert refusal(document) == (
        "spec.maxTrials: is missing; random needs it, because lr can take any number of values"
    )
    document["spec"]["maxTrials"] = 5
    assert parse_study(document).spec.algorithm == Random()
    del document["spec"]["maxTrials"]
    document["spec"]["space"]["lr"] = {"choices": [1, 2]}
    assert parse_study(document).spec.max_trials is None


def parsed(document: Any) -> tuple[Study | None, tuple[tuple[str, str], ...]]:
    try:
        return parse_study(document), ()
    except InvalidSpec as error:
        return None, error.errors


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["choices", "cosine", "uniform", "grid", "1h"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.text(max_size=3) | st.sampled_from(["choices", "int", "low", "high", "name", "cosine",
                                               "piecewise", "steps", "static"]) | st.integers(0, 1),
        inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths of all parts of a document, itself included."""
    found = [path]
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*path, key))
    return found


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data(), JUNK)
def test_junk_anywhere_is_refused_in_clear_lines(data: st.DataObject, junk: Any) -> None:
    document: Any = copy.deepcopy(DOCUMENT)
    *outer, last = data.draw(st.sampled_from(places(document)[1:]))
    place = document
    for key in outer:
        place = place[key]
    place[last] = junk
    study, errors = parsed(document)
    assert (study is None) == bool(errors)
    if study is not None:
        assert parse_study(json.loads(study.model_dump_json())) == study
    for path, message in errors:
        assert path
        assert message
        assert "\n" not in message
        assert "Input should" not in message


def test_line_breaks_of_a_user_do_not_break_the_line() -> None:
    _, errors = parsed({**DOCUMENT, "na\nme": 1})
    assert list(errors) == [("na\\nme", "unknown field")]
    space = {"lr": {"choices": [1], "\x1b\n": 2}}
    _, errors = parsed({**DOCUMENT, "spec": {**DOCUMENT["spec"], "space": space}})
    assert list(errors) == [("spec.space.lr", r"unknown field beside a domain: \x1b\n")]


def edited(**fields: Any) -> Study:
    document = copy.deepcopy(DOCUMENT)
    document["spec"] |= fields
    return parse_study(document)


def test_what_may_be_edited() -> None:
    old = edited(maxTrials=5)
    new = edited(maxTrials=6, parallelism=2, priority=3, suspend=True, maxFailedTrials=9,
                 budget={"wallTime": "1h"})  # fmt: skip
    assert editable_changes(old, new) == (
        "budget", "maxFailedTrials", "maxTrials", "parallelism", "priority", "suspend",
    )  # fmt: skip
    assert editable_changes(old, edited(maxTrials=None)) == ("maxTrials",)
    assert editable_changes(old, old) == ()


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"maxTrials": 4}, "spec.maxTrials: may only grow (it was 5)"),
        ({"steps": 60}, "spec.steps: may not change; make another study instead"),
        ({"retries": 1}, "spec.retries: may not change; make another study instead"),
        ({"algorithm": {"name": "random"}},
         "spec.algorithm: may not change; make another study instead"),
        ({"trainer": {"entrypoint": "a:B"}},
         "spec.trainer: may not change; make another study instead"),
    ],
)  # fmt: skip
def test_what_may_not_be_edited(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        editable_changes(edited(maxTrials=5), edited(**{"maxTrials": 5, **fields}))
    assert str(caught.value) == line


def test_what_no_result_depends_on_may_change_in_a_trainer() -> None:
    trainer = edited().model_dump(mode="json")["spec"]["trainer"]
    for fields in (
        {"maxGrace": "20m"},
        {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
        {"podTemplate": {"spec": {"nodeSelector": {"gpu": "a100"}}}},
    ):
        assert editable_changes(edited(), edited(trainer={**trainer, **fields})) == ("trainer",)
    for fields in ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, {"image": "digits:2"}):
        with pytest.raises(InvalidSpec, match=r"spec\.trainer: may not change"):
            editable_changes(edited(), edited(trainer={**trainer, **fields}))


def test_all_trials_cannot_become_fewer() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.maxTrials: may only grow \(it was not set"):
        editable_changes(edited(), edited(maxTrials=500))
    renamed = copy.deepcopy(DOCUMENT)
    renamed["metadata"]["name"] = "other"
    with pytest.raises(InvalidSpec, match=r"metadata\.name: may not change"):
        editable_changes(edited(), parse_study(renamed))
