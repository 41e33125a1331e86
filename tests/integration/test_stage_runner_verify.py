"""``verify`` names what a trainer forgot; ``export`` writes what others read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.integration.worker_processes import runner_command
from tests.unit.stage_runner.chains import SCHEDULES, TRAINERS, Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def verify(
    folder: Path,
    entrypoint: str,
    hyperparameters: dict[str, Any] = SCHEDULES,
    variants: dict[str, Any] | None = None,
    most_steps: int = 4,
    **config: Any,
) -> tuple[int, dict[str, Any]]:
    file = folder / "study.json"
    trainer = {"entrypoint": entrypoint, "config": config, "seed": 1}
    study = {
        "trainer": trainer,
        "hyperparameters": hyperparameters,
        "variants": variants or {},
        "steps": 12,
        "train_steps": 4,
        "most_steps": most_steps,
    }
    file.write_text(json.dumps(study))
    command = [sys.executable, "-m", "stage_runner", "verify", "--study-json", str(file)]
    done = subprocess.run(
        [*command, "--path", str(TRAINERS)], capture_output=True, text=True, timeout=120
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("entrypoint", ["plain:PlainTrainer", "tiny_torch:TinyTrainer"])
def test_a_good_trainer_passes(tmp_path: Path, entrypoint: str) -> None:
    status, result = verify(tmp_path, entrypoint)
    assert (status, result["ok"]) == (0, True), result
    assert [check["name"] for check in result["checks"]] == [
        *("train", "repeat", "evaluation", "restore", "save and restore", "metrics"),
        "second process",
    ]
    assert {check["kind"] for check in result["checks"]} == {"ok"}
    assert result["seconds_per_step"] > 0
    assert result["save_seconds"] > 0
    assert result["checkpoint_bytes"] > 100


def test_what_no_one_reads_is_named(tmp_path: Path) -> None:
    """A state that tells all values (TinyTrainer's ``built_with``) has not read them by that."""
    varied = {"learning_rate": 0.2, "lr": 0.3}
    read = {"learning_rate": 0.1, **SCHEDULES}
    status, result = verify(
        tmp_path, "tiny_torch:TinyTrainer", hyperparameters=read, variants=varied
    )
    assert (status, result["unused"]) == (0, ["learning_rate"]), result


@pytest.mark.parametrize(
    ("name", "check", "said"),
    [
        ("Forgetful", "save and restore", "weights[0], weights[1], weights[2] and 1 more differ"),
        ("Disturbed", "evaluation", "weights[0] differs after step 2"),
        ("Moody", "second process", "weights[1] differs after step 1 in another process"),
        ("Ordered", "second process", "weights[2] differs after step 1 in another process"),
        ("Setting", "second process", "weights[2] differs after step 2 when restored before in"),
        ("Counting", "repeat", "a step changes something outside of the trainer"),
        ("Rounding", "restore", "load_state_dict() has not restored what state_dict() had"),
        ("Restless", "saving", "saves differs after step 4 if state_dict() was not called"),
        ("Secretive", "save", "state['rng']['own']: a random.Random cannot be saved"),
        ("Wordy", "evaluate", "metric 'score' must be a number"),
        ("Unprepared", "evaluate right after a restore", "no attribute 'seen' (plain.py:"),
        ("Missing", "import", "plain has no 'Missing'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, check: str, said: str) -> None:
    status, result = verify(tmp_path, f"plain:{name}")
    assert (status, result["ok"]) == (1, False)
    (failed,) = [found for found in result["checks"] if not found["ok"]]
    assert failed["name"] == check
    assert said in failed["detail"]
    raised = name in ("Secretive", "Wordy", "Missing", "Unprepared")
    assert failed["kind"] == ("failed" if raised else "differs")


def test_what_a_trainer_does_to_its_arguments_is_its_own_affair(tmp_path: Path) -> None:
    given = {"lr": 0.1, "pair": [1, 2]}
    status, result = verify(tmp_path, "plain:Greedy", hyperparameters=given, pull=2)
    assert (status, result["ok"]) == (0, True), result


def test_the_step_that_raises_is_named(tmp_path: Path) -> None:
    _, result = verify(tmp_path, "plain:PlainTrainer", fail_at=2)
    assert result["checks"][-1]["name"] == "step"
    assert "ValueError: told to fail (plain.py:" in result["checks"][-1]["detail"]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("kill", "the other process was ended by SIGKILL"),
        ("raise", "step: KeyError: 'there' (plain.py:"),
    ],
)
def test_what_ends_the_second_process_is_told(tmp_path: Path, end: str, said: str) -> None:
    _, result = verify(tmp_path, "plain:Fragile", end=end)
    (failed,) = [found for found in result["checks"] if not found["ok"]]
    assert (failed["name"], failed["kind"]) == ("second process", "failed")
    assert said in failed["detail"]


def test_it_trains_until_an_epoch_has_ended(tmp_path: Path) -> None:
    """43 samples in steps of 3 iterations: with 4 in a batch, the first epoch ends in step 4."""
    read = {"lr": 0.1, "batch_size": 4}
    _, result = verify(tmp_path, "tiny_torch:TinyTrainer", hyperparameters=read, most_steps=9)
    assert result["checks"][0]["detail"] == "5 steps, with the end of an epoch"
    assert result["unmet"] == []
    late: dict[str, Any] = {"lr": {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [11]}}}
    late["batch_size"] = 2
    _, result = verify(tmp_path, "tiny_torch:TinyTrainer", hyperparameters=late, most_steps=5)
    assert result["steps"] == 5
    assert result["unmet"] == ["a change of the hyper-parameters at step 11", "the end of an epoch"]


def export(lab: Lab, key: str, output: Path) -> subprocess.CompletedProcess[str]:
    named = ["--plan", "plan", "--key", key, "--output", str(output)]
    command = runner_command(lab, "export", *named)
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_export_writes_a_plain_pytorch_file(lab: Lab) -> None:
    lab.run(lab.assignment(3, entrypoint="tiny_torch:TinyTrainer"))
    (key,) = lab.store().load().manifests
    output = lab.folder / "out" / "model.pt"
    assert export(lab, key, output).returncode == 0
    state = torch.load(output, weights_only=True)
    assert state["trained"] == 3
    assert state["model"]["0.weight"].shape == (8, 6)
    assert export(lab, key, output.with_suffix(".npz")).returncode == 0
    arrays = np.load(output.with_suffix(".npz"))
    assert np.array_equal(arrays["model.0.weight"], state["model"]["0.weight"].numpy())
    assert sorted(path.name for path in output.parent.iterdir()) == ["model.npz", "model.pt"]


def test_export_of_nothing_is_one_line(lab: Lab) -> None:
    lab.run(lab.assignment(3))
    done = export(lab, "0" * 40, lab.folder / "model.pt")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert not (lab.folder / "model.pt").exists()
