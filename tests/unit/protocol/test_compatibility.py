"""A worker's last log line: an incompatible Hippo, or a failure of its trainer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hippo.protocol.compatibility import EXIT_INCOMPATIBLE, MARK, find_incompatibility

FILE = "/etc/hippo/assignment.json"


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        (EXIT_INCOMPATIBLE, f"{MARK}--assignment: no", "--assignment: no"),
        # Of earlier runners.
        (
            2,
            f"--assignment {FILE} was written by a newer Hippo: build the trainer's image with the"
            " operator's version of Hippo",
            f"--assignment {FILE} was written by a newer Hippo",
        ),
        (2, f"--assignment: the assignment ({FILE}) cannot be read: x: Extra inputs", "--assign"),
        (2, f"--assignment {FILE}: No such file or directory", "--assignment"),
        (2, "python -m stage_runner run: error: unrecognized arguments: --pulse 3", "python"),
        (2, "python -m stage_runner: error: argument {serve}: invalid choice: 'run'", "python"),
        # Of Python, and of a Hippo half installed.
        (1, "/opt/hippo/bin/python3: No module named stage_runner", "No module named stage_runner"),
        (1, "ModuleNotFoundError: No module named 'hippo.store'", "No module named 'hippo.store'"),
        (1, "ImportError: cannot import name 'X' from 'hippo.store' (/x.py)", "cannot import name"),
    ],
)
def test_a_hippo_that_does_not_fit_is_told(code: int, line: str, said: str) -> None:
    found = find_incompatibility(code, line)
    assert found is not None
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (2, ""),
        (2, "usage: trainer.py [-h]"),
        (2, "trainer.py: error: unrecognized arguments: --lr"),
        (2, f"{MARK}it says so and ends otherwise"),
        (EXIT_INCOMPATIBLE, ""),
        (EXIT_INCOMPATIBLE, "the trainer's own"),
        (0, f"{MARK}no"),
        (None, f"{MARK}no"),
        (1, "ModuleNotFoundError: No module named 'hippocampus'"),
        (1, "ModuleNotFoundError: No module named 'torch'"),
        (1, "ImportError: cannot import name 'X' from 'hippodrome' (/x.py)"),
        (137, "python3: No module named stage_runner"),
    ],
)
def test_what_a_trainer_does_is_the_trainers(code: int | None, line: str) -> None:
    assert find_incompatibility(code, line) is None


def test_python_itself_says_so(tmp_path: Path) -> None:
    """The image lacks Hippo."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-m", "stage_runner", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert find_incompatibility(done.returncode, done.stderr.splitlines()[-1]) == (
        "No module named stage_runner"
    )
