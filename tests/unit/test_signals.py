"""Tests give the same verdict where they are started by nohup, or in the background by a script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.provenance import ROOT

_ASK = "import signal; print([signal.getsignal(n) == signal.SIG_IGN for n in (1, 2, 3)])"
_TEST = f"""
import os, signal, subprocess, sys, time

def test_children_heed_what_this_run_ignores():
    asked = [sys.executable, "-c", {_ASK!r}]
    told = subprocess.run(asked, capture_output=True, text=True).stdout
    assert told == "[False, False, False]\\n"

def test_this_run_goes_on_ignoring_them():
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(os.getpid(), number)
    time.sleep(0.01)
"""


@pytest.mark.slow
def test_what_a_run_of_tests_ignores_its_children_do_not(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(_TEST)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    script = "trap '' INT HUP QUIT; exec \"$@\""
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
