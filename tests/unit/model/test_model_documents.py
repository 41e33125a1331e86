"""YAML files: numbers as in YAML 1.2, and errors that name file, document and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hippo.model import InvalidSpec, load_studies

STUDY = """\
apiVersion: hippo.dev/v1alpha1
kind: Study
metadata: {name: NAME}
spec:
  objective: {metric: accuracy, goal: maximize}
  steps: 120
  space:
    lr: {choices: [1e-5, 1E-4, .5, 0.1]}
    flag: {choices: [true, "no", 24:00]}
  algorithm: {name: grid}
  trainer: {entrypoint: trainer:T}
"""


def write(folder: Path, text: str | bytes, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def study(name: str) -> str:
    return STUDY.replace("NAME", name)


def refusal(*paths: Path) -> str:
    with pytest.raises(InvalidSpec) as caught:
        load_studies(list(paths))
    return str(caught.value)


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    (loaded,) = load_studies([write(tmp_path, study("a"))])
    space: dict[str, Any] = loaded.spec.space
    assert space["lr"]["choices"] == [1e-5, 1e-4, 0.5, 0.1]
    assert all(isinstance(item, float) for item in space["lr"]["choices"])
    assert space["flag"]["choices"] == [True, "no", "24:00"]


def test_several_documents_and_files(tmp_path: Path) -> None:
    both = write(tmp_path, f"---\n{study('a')}---\n---\n{study('b')}...\n")
    third = write(tmp_path, json.dumps(load_studies([both])[0].model_dump(mode="json")).replace(
        '"a"', '"c"'), "study.json")  # fmt: skip
    assert [loaded.name for loaded in load_studies([both, third])] == ["a", "b", "c"]


def test_problems_name_their_file_and_document(tmp_path: Path) -> None:
    one = write(tmp_path, study("a").replace("steps: 120", "steps: 0"), "one.yaml")
    two = write(tmp_path, study("b") + "---\n" + study("C") + "---\n3\n", "two.yaml")
    lines = refusal(one, two).splitlines()
    assert lines[0] == f"{one}: spec.steps: must be at least 1"
    assert lines[1].startswith(f"{two}: document 2: metadata.name: must consist of")
    assert lines[2] == f"{two}: document 3: a study must be a mapping, not 3"


def test_names_are_unique(tmp_path: Path) -> None:
    one, two = write(tmp_path, study("a"), "one.yaml"), write(tmp_path, study("a"), "two.yaml")
    assert refusal(one, two) == f"{two}: metadata.name: 'a' is also the name of a study in {one}"
    assert "also the name" in refusal(one, one)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [1, 2\nb: 3\n", 2, "is not YAML: while parsing a flow sequence, "),
        ("a: 1\na: 2\n", 2, 'is not YAML: while constructing a mapping, found duplicate key "a"'),
        ("a: 1\n\tb: 2\n", 2, "is not YAML: while scanning for the next token, found character "),
        ("a: !!python/object:os.system x\n", 1, "is not YAML: could not determine a constructor "),
        ("a: *b\n", 1, "is not YAML: found undefined alias"),
    ],
)
def test_yaml_errors_name_the_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = write(tmp_path, text)
    found = refusal(path)
    assert found.startswith(f"{path}:{line}: {message}")
    assert "\n" not in found


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: no such file"
    assert refusal(tmp_path) == f"{tmp_path}: is a directory, not a file"
    for text in ("", "\n# nothing\n", "---\n---\n"):
        path = write(tmp_path, text)
        assert refusal(path) == f"{path}: is empty"
    path = write(tmp_path, b"a: \xff\n")
    assert refusal(path) == f"{path}: is not UTF-8 text (byte 3)"
    path = write(tmp_path, "a: \x00\n")
    assert refusal(path).startswith(f"{path}: is not YAML: ")
    path = write(tmp_path, "- a\n")
    assert refusal(path) == f"{path}: a study must be a mapping, not a list"


def test_dates_and_loops_are_no_values(tmp_path: Path) -> None:
    config = "{entrypoint: trainer:T, config: {day: 2024-05-06}}"
    path = write(tmp_path, study("a").replace("{entrypoint: trainer:T}", config))
    assert refusal(path) == (
        f"{path}: spec.trainer.config.day: must be plain JSON, not a date; put it in quotes if text"
    )
    path = write(tmp_path, study("a").replace("{entrypoint: trainer:T}",
                 "{entrypoint: trainer:T, config: &loop {a: *loop}}"))  # fmt: skip
    assert refusal(path) == f"{path}:11:54: *loop stands within what it names"
