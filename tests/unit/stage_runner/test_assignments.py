"""An assignment that cannot be carried out is refused in one line, and nothing is trained."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hippo.protocol.compatibility import EXIT_INCOMPATIBLE
from hippo.store.bounds import MAX_BYTES, Kind
from stage_runner.__main__ import main
from stage_runner.worker import open_store, run_worker
from tests.unit.hostile.values import deep, put

GOOD: dict[str, Any] = {
    "chain": "c1",
    "signature": "s",
    "trainer": {"entrypoint": "t:T", "config": {}, "seed": 0, "threads": 1},
    "route": {"hyperparameters": {"lr": 0.1}, "steps": 4, "stopAt": 4},
}
PLAN = "default/0123456789abcdef"

BAD: list[tuple[str, Any, str]] = [
    ("chain", "../../x", "chain: "),
    ("chain", "", "chain: "),
    ("chain", "a/b", "chain: "),
    ("chain", "c" * 201, "chain: "),
    ("chain", "c1\n", "chain: "),
    ("chain", None, "chain: "),
    ("start", -5, "start: "),
    ("start", 7, "start: 7 lies beyond stopAt, 4"),
    ("start", 2, "startKey: is needed exactly if start is not 0"),
    ("startKey", "k", "startKey: is needed exactly if start is not 0"),
    ("startKey", "../k", "startKey: "),
    ("start", 10**12 + 1, "start: "),
    ("start", 1.5, "start: "),
    ("start", True, "start: "),
    ("start", 10**400, "start: "),
    ("pollSeconds", -1, "pollSeconds: "),
    ("pollSeconds", "NaN", "pollSeconds: "),
    ("lingerSeconds", 1e300, "lingerSeconds: "),
    ("graceSeconds", "Infinity", "graceSeconds: "),
    ("saveEverySeconds", -1, "saveEverySeconds: "),
    ("stepTimeoutSeconds", 1e11, "stepTimeoutSeconds: "),
    ("exactness", "loose", "exactness: "),
    ("studies", ["../x"], "studies.0: "),
    ("studies", {"a": 1}, "studies: "),
    ("fingerprint", {"a": {}}, "fingerprint.a: "),
    ("signature", "s" * 2000, "signature: "),
    ("unheardOf", 1, "unheardOf: "),
    ("trainer.threads", 0, "trainer.threads: "),
    ("trainer.threads", 10**9, "trainer.threads: "),
    ("trainer.seed", 2**70, "trainer.seed: "),
    ("trainer.config", [], "trainer.config: "),
    ("trainer.config", {"a": deep(150)}, "trainer.config: nested deeper"),
    ("trainer.config", {"a": 10**400}, "trainer.config: a number that is too large"),
    ("trainer.entrypoint", 5, "trainer.entrypoint: "),
    ("route.steps", 0, "route.steps: "),
    ("route.stopAt", -1, "route.stopAt: "),
    ("route.saveAt", [-1], "route.saveAt.0: "),
    ("route.saveAt", [9], "route.saveAt: 9 lies beyond steps, 4"),
    ("route.evaluateAt", [2**60], "route.evaluateAt.0: "),
    ("route.hyperparameters", None, "route.hyperparameters: "),
]


def spoil(path: str, value: Any) -> bytes:
    return json.dumps(put(GOOD, tuple(path.split(".")), value)).encode()


def refuse(file: str | Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    store = open_store(str(tmp_path / "store"), PLAN)
    assert (
        run_worker(str(file), store, path=tmp_path, launched=time.monotonic()) == EXIT_INCOMPATIBLE
    )
    assert not (tmp_path / "store").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(("path", "value", "told"), BAD, ids=[f"{p}={v!r:.12}" for p, v, _ in BAD])
def test_every_field_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, value: Any, told: str
) -> None:
    (tmp_path / "a.json").write_bytes(spoil(path, value))
    assert told in refuse(tmp_path / "a.json", tmp_path, capsys)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode()[:-5],
        b"[" * 100_000,
        b'{"formatVersion": 1e400}',
        b'{"chain": "\\ud800"}',
        b'{"formatVersion": ' + b"9" * 5000 + b"}",
        b"x" * (MAX_BYTES[Kind.ASSIGNMENT] + 1),
    ],
    ids=lambda data: f"{data[:16]!r}",
)
def test_what_is_no_assignment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    (tmp_path / "a.json").write_bytes(data)
    assert "assignment" in refuse(tmp_path / "a.json", tmp_path, capsys)


def test_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(spoil("start", -5))))
    assert "start: " in refuse("-", tmp_path, capsys)


@pytest.mark.parametrize("name", ["../x", "", "a b", "/etc", "a/../../b", "a\n", "x" * 2000])
def test_what_is_named_lies_within_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    store = ["--store", str(tmp_path), "--plan"]
    for option, command in {
        "plan": ["run", *store, name, "--assignment", "a.json"],
        "key": ["export", *store, PLAN, "--output", "o", "--key", name],
    }.items():
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"--{option} ")
        assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("assignment", [spoil("chain", "../../x"), spoil("start", 7)])
def test_on_the_command_line(tmp_path: Path, assignment: bytes) -> None:
    (tmp_path / "a.json").write_bytes(assignment)
    command = [sys.executable, "-m", "stage_runner", "run", "--assignment", "a.json"]
    done = subprocess.run(
        [*command, "--store", "st", "--plan", PLAN], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (EXIT_INCOMPATIBLE, "", 1)
