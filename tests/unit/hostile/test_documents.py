"""Studies as nobody would write them: refused in lines that say where, and in bounded time."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.kube.api import STUDY
from hippo.model import InvalidSpec, load_studies, parse_study
from hippo.model.trial import parse_trial_spec
from hippo.store.layout import Layout
from tests.model_checking.world import World
from tests.unit.hostile.values import anything, deep, spoilt
from tests.unit.kube.memory import NAMESPACE, study_document

SECONDS = 20.0
"""Of the processor, not of a busy machine's clock: what grows without bound takes far more."""
WHOLE = study_document(
    "s",
    steps=12,
    space={
        "lr": {
            "choices": [
                0.1,
                {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [2, 4]}},
                {"warmup": {"from": 0.0, "steps": 2, "to": 0.1, "then": {"cosine": {
                    "initial": 0.1, "final": 0.0, "steps": 5}}}},
                {"piecewise": [[0, 0.1], [4, {"step": {"initial": 1, "gamma": 0.5, "every": 2}}]]},
            ]
        },
        "wd": {"uniform": {"low": 1e-5, "high": 1e-3, "log": True}},
    },
    algorithm={"name": "asha", "eta": 3, "minSteps": 2},
    maxTrials=3,
    budget={"workerHours": 1, "wallTime": "1h"},
    checkpoints={"retain": "best", "every": "10m", "ttl": "7d"},
    trainer={"entrypoint": "t:T", "image": "i:1", "config": {"a": [1]}, "podTemplate": {}},
)  # fmt: skip


@settings(max_examples=300)
@given(st.one_of(spoilt(WHOLE), anything))
def test_a_spoilt_study_is_refused_in_lines_or_is_one(document: Any) -> None:
    began = time.process_time()
    try:
        parse_study(document)
        told: list[tuple[str, str]] = []
    except InvalidSpec as error:
        told = list(error.errors)
    for path, message in told:
        assert message
        assert "\n" not in f"{path}{message}"
        assert len(message) < 1000
    assert time.process_time() - began < SECONDS


@settings(max_examples=150)
@given(spoilt({"study": "s", "hyperparameters": {"lr": 0.1}, "steps": 2, "index": 0}))
def test_a_spoilt_trial_is_refused_or_is_one(spec: Any) -> None:
    with contextlib.suppress(InvalidSpec):
        parse_trial_spec(spec)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(spoilt(WHOLE), min_size=1, max_size=3))
def test_the_operator_takes_in_whatever_an_api_server_might_hold(documents: list[Any]) -> None:
    world = World()
    try:
        world.apply("sound", steps=4, space={"lr": {"choices": [0.1]}})
        for number, document in enumerate(documents):
            if isinstance(document, dict) and "spec" in document:
                found = {**study_document(f"s{number}"), "spec": document["spec"]}
                world._runner.do(world.server.create(STUDY, NAMESPACE, found))
        world.start_operator(0, "hippo")
        for _ in range(20):
            operator = world.operators[0]
            for key in operator.behind():
                world.run(0, operator.deliver(key))
            world.take_turn(0)
            world.serve_pods(actions=3)
            world.server.now += 2.0
        reasons = {
            condition["reason"]
            for study in world.studies()
            for condition in (study.get("status") or {}).get("conditions", [])
        }
        assert "Defect" not in reasons
        sound = world.server.find(STUDY, "sound")
        assert sound["status"]["phase"] == "Succeeded"
    finally:
        world.close()


BOMB = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
FILES = {
    "bomb": BOMB,
    "python": "!!python/object/apply:os.system ['touch it-ran']",
    "deep": "[" * 5000,
    "braces": "{a: " * 2000,
    "nul": "a: \0",
    "binary": "\x80\x81",
    "twice": "apiVersion: a\napiVersion: b\n",
    "merge": "<<: [*x]\n",
    "list": "- 1\n- 2\n",
    "empty": "",
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_yaml_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(FILES[name].encode("latin-1"))
    began = time.process_time()
    with pytest.raises(InvalidSpec) as error:
        load_studies([path])
    assert "\n" not in error.value.errors[0][1]
    assert time.process_time() - began < SECONDS
    assert not (tmp_path / "it-ran").exists()


def test_deep_values_are_refused_or_taken_as_they_are() -> None:
    for depth in (10, 100, 900, 5000):
        document = study_document("s", space={"lr": {"choices": [deep(depth)]}})
        with contextlib.suppress(InvalidSpec):
            parse_study(document)


@given(st.text(), st.text())
def test_no_name_leads_out_of_a_plan(plan: str, part: str) -> None:
    try:
        layout = Layout(plan)
        names = [layout.manifest(part), layout.report(part, 3), layout.control(part)]
        names += [layout.study(part), layout.decision(part, 1), layout.data_of(part)]
    except ValueError:
        return
    for name in names:
        assert name.startswith(f"{plan}/")
        assert ".." not in name.split("/")
        assert "\\" not in name
