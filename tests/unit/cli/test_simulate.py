"""What ``hippo simulate`` says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hippo.cli import main
from hippo.cli.simulate import print_comparison
from hippo.model import load_studies, signature_document
from hippo.protocol.reports import Began, Ended
from hippo.simulate import Pace, SimulationOptions, SyntheticCurves, compare
from hippo.store import DirectoryBlobs, PlanStore
from tests.unit.simulate.test_simulation import grid, multistep, synthetic

EXAMPLES = Path(__file__).parents[3] / "examples"
GRID = EXAMPLES / "digits" / "grid.yaml"


def call(capsys: pytest.CaptureFixture[str], monkeypatch: Any, *arguments: Any) -> tuple[int, Any]:
    """Exit status, and what was written: (standard output, standard error)."""
    monkeypatch.setattr("sys.argv", ["hippo", "simulate", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    status = left.value.code
    return (status if isinstance(status, int) else 0), capsys.readouterr()


@pytest.mark.slow
def test_the_document_of_the_grid(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = call(capsys, monkeypatch, GRID, "--workers", 4, "-o", "json")
    assert status == 0
    found = json.loads(said.out)
    assert (found["trials"], found["stepsRequested"], found["stepsUnique"]) == (48, 5760, 2012)
    assert found["stepsTrained"] == found["workerSeconds"] == 2012
    assert found["makespan"] == found["lowerBound"] == 520
    assert found["trialBased"]["makespan"] == 48 // 4 * 120
    assert found["trialBased"]["workerSeconds"] == 5760
    assert found["workerSecondsRatio"] == found["mergeRate"] == 5760 / 2012
    assert found["curves"] == "synthetic"


@pytest.mark.slow
def test_times_are_in_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = call(
        capsys, monkeypatch, GRID, "--workers", 4, "--step-seconds", 0.5, "-o", "json"
    )
    found = json.loads(said.out)
    assert status == 0
    assert found["makespan"] == found["lowerBound"] == 260
    assert found["workerSeconds"] == 1006


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workers", 4, "--step-seconds", 0], "--step-seconds: must be more than 0"),
        (["--workers", 4, "--save-seconds", "inf"], "--save-seconds: must be finite"),
        (["--workers", 4, "--curves", "/nowhere/at/all"], "there is no store at /nowhere/at/all"),
        (["--workers", 0], "Invalid value for '--workers'"),
        ([], "Missing option '--workers'"),
    ],
)
def test_bad_options_are_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[Any],
    complaint: str,
) -> None:
    status, said = call(capsys, monkeypatch, GRID, *arguments)
    assert status != 0
    assert complaint in said.err
    assert not said.out


def test_an_external_study_has_no_course_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EXAMPLES / "plain" / "external.yaml"
    status, said = call(capsys, monkeypatch, file, "--workers", 2)
    assert status != 0
    assert "is external: its trials are made while it runs" in said.err


def test_curves_of_a_store_without_this_trainer_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, said = call(capsys, monkeypatch, GRID, "--workers", 2, "--curves", tmp_path)
    assert status != 0
    assert "holds no results of this trainer: run a study of it there first" in said.err


def test_people_read_both_ways_and_the_bound() -> None:
    study = grid(0.1, multistep(6))
    found = compare([study], synthetic(study), SimulationOptions(2))
    stream = io.StringIO()
    print_comparison(Console(file=stream, width=200), found, None)
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert lines[0] == (
        "2 trials on 2 workers: 24 steps requested, 18 once merged, merge rate 1.33"
    )
    assert lines[2:4] == ["stage tree 12 18 18 2 3", "trial by trial 12 24 24 2 2"]
    assert lines[4].startswith("1.00x in time, 1.33x in worker time; no schedule ends before 12")
    assert len(lines) == 5


def test_synthetic_curves_are_said_where_they_matter() -> None:
    study = grid(0.1, multistep(6), algorithm={"name": "sha", "eta": 2, "minSteps": 3})
    found = compare(
        [study], SyntheticCurves((study.spec.objective,), 12), SimulationOptions(2, Pace(2.0))
    )
    stream = io.StringIO()
    print_comparison(Console(file=stream, width=200), found, None)
    assert "learning curves are synthetic" in stream.getvalue()


def test_times_that_a_store_has_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are given count more."""
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    blobs = DirectoryBlobs(tmp_path / "store")
    trainer = load_studies([study])[0].spec.trainer
    store = PlanStore(blobs, f"default/{'1' * 16}")
    store.initialise(signature_document(trainer, "sources"))
    times = {"train_seconds": 6.0, "worker_seconds": 9.0}
    began = {"fingerprint": {}, "start_seconds": 2.0, "load_seconds": 0.0}
    store.write_report(Began(chain="a", sequence_number=0, step=0, **began))
    end = Ended(chain="a", sequence_number=1, step=12, trained=12, outcome="completed", **times)
    store.write_report(end)
    arguments = (study, "--workers", 1, "--like", tmp_path / "store", "--load-seconds", 3.0)
    status, said = call(capsys, monkeypatch, *arguments, "-o", "json")
    assert status == 0, said.err
    found = json.loads(said.out)
    seconds = found["seconds"]
    assert (seconds["step"], seconds["start"], seconds["load"]) == (0.5, 2.0, 3.0)
    assert found["like"]["chains"] == 1
    assert found["like"]["steps"] == 12
    status, said = call(capsys, monkeypatch, *arguments)
    assert "a step takes 0.5 s, a start 2 s, a load 3 s" in said.out
    status, said = call(capsys, monkeypatch, study, "--workers", 1, "--like", tmp_path / "none")
    assert status == 1
    assert said.err.startswith(f"hippo: there is no store at {tmp_path / 'none'}: ")


STUDY = """\
apiVersion: hippo.dev/v1alpha1
kind: Study
metadata: {name: small}
spec:
  steps: 12
  trainer: {entrypoint: "trainer:T"}
  objective: {metric: score, goal: maximize}
  algorithm: {name: grid}
  space:
    lr: {choices: [0.1, {multistep: {initial: 0.1, gamma: 0.1, milestones: [6]}}]}
"""
