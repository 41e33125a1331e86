from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hippo.local.study_edits import StudyFiles
from tests.world import build_study

SPACE: dict[str, Any] = {"lr": {"choices": [0.1, 0.2]}}


def write(path: Path, *studies: Any) -> None:
    documents = [study.model_dump_json(by_alias=True, exclude_none=True) for study in studies]
    path.write_text("\n---\n".join(documents))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "studies.yaml"
    write(path, build_study("a", space=SPACE), build_study("b", space=SPACE))
    return path


def test_what_has_changed_is_told_once(path: Path) -> None:
    running = [build_study("a", space=SPACE), build_study("b", space=SPACE)]
    files = StudyFiles([path])
    assert list(files.read_edits(running)) == []
    edited = build_study("b", space=SPACE, priority=3, parallelism=2)
    write(path, running[0], edited)
    (edit,) = files.read_edits(running)
    assert (edit.study, edit.changed, edit.problem) == (edited, ("parallelism", "priority"), None)
    assert list(files.read_edits([running[0], edited])) == []


def test_what_may_not_change_is_refused_by_its_path(path: Path) -> None:
    running = [build_study("a", space=SPACE), build_study("b", space=SPACE)]
    files = StudyFiles([path])
    write(path, build_study("a", space=SPACE, steps=99, priority=1), running[1])
    (edit,) = files.read_edits(running)
    assert edit.study == running[0]
    assert edit.problem is not None
    assert edit.problem.startswith("spec.steps: may not change")


@pytest.mark.parametrize(
    "text", ["{", "kind: Study", json.dumps({"spec": {"stops": 1}}), "a:\n- {"]
)
def test_a_file_that_cannot_be_read_is_told_in_a_line(path: Path, text: str) -> None:
    running = [build_study("a", space=SPACE)]
    files = StudyFiles([path])
    path.write_text(text)
    (edit,) = files.read_edits(running)
    assert edit.problem is not None
    assert "\n" not in edit.problem
    assert str(path) in edit.problem


def test_a_file_that_is_gone_or_comes_back_as_it_was_changes_nothing(path: Path) -> None:
    running = [build_study("a", space=SPACE), build_study("b", space=SPACE)]
    files = StudyFiles([path])
    text = path.read_text()
    path.unlink()
    assert list(files.read_edits(running)) == []
    path.write_text(text)
    assert list(files.read_edits(running)) == []


def test_studies_that_have_ended_are_left_alone(path: Path) -> None:
    files = StudyFiles([path])
    write(path, build_study("a", space=SPACE, steps=99), build_study("b", space=SPACE, steps=99))
    assert list(files.read_edits([])) == []
