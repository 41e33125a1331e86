"""What is said of a worker that died without a word, from what Python itself wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hippo.local.deaths import describe_death
from hippo.session.crash_trace import find_crash

RUNNER = """
import faulthandler, sys, threading
sys.path.insert(0, sys.argv[1])
worker = compile("threading.Event().wait()", sys.argv[0].replace("chain", "worker"), "exec")
for _ in range(2):  # other threads of the runner
    threading.Thread(target=exec, args=(worker, {"threading": threading}), daemon=True).start()
import trainer
faulthandler.enable()
faulthandler.dump_traceback_later(0.2, exit=True)
trainer.step()
"""
TRAINERS = {
    "segfault": "import ctypes\n\ndef step():\n    ctypes.string_at(0)\n",
    "abort": "import os\n\ndef step():\n    os.abort()\n",
    "hold": "import itertools\n\ndef step():\n    sum(itertools.repeat(0))\n",
}


def die(folder: Path, how: str) -> tuple[int, Path]:
    """Let a real process die: its exit as subprocess gives it, and its log."""
    (folder / "trainer.py").write_text(TRAINERS[how])
    runner = folder / "stage_runner" / "chain.py"
    runner.parent.mkdir()
    runner.write_text(RUNNER)
    log = folder / "log"
    with log.open("w") as file:
        file.write("what the trainer printed before\n")
        file.flush()
        ended = subprocess.run(
            [sys.executable, str(runner), str(folder)], stderr=file, check=False, timeout=60
        )
    return ended.returncode, log


def exit_news(code: int, **news: Any) -> dict[str, Any]:
    return {"code": max(code, 0), "signal": -code if code < 0 else None, **news}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("segfault", "the worker was killed by SIGSEGV in step 7 (trainer.py:4, in step())"),
        ("abort", "the worker was killed by SIGABRT in step 7 (trainer.py:4, in step())"),
        (
            "hold",
            "step 7 has not ended within trainer.stepTimeout: it stands at trainer.py:4, in step(),"
            " in code that holds Python's lock",
        ),
    ],
)
def test_the_place_of_a_crash_is_read_from_the_log(tmp_path: Path, how: str, told: str) -> None:
    code, log = die(tmp_path, how)
    news = exit_news(code, during="step", step=7)
    assert describe_death(news, log, tmp_path) == f"{told}; its log: {log}"


@pytest.mark.parametrize(
    ("news", "told"),
    [
        (exit_news(0, during="step", step=3), "the trainer ended its process, with exit status 0"),
        (exit_news(0, during="step", step=3), "no report in step 3; its log"),
        (exit_news(7, during="evaluate", step=6), "status 7 and no report in evaluate() at step 6"),
        (exit_news(-9, during="setup", step=0), "by SIGKILL (out of memory?) in setup(); its log"),
        (exit_news(-9, during="store", step=4), "by SIGKILL (out of memory?); its log"),
        (exit_news(71), "the worker ended with exit status 71 and no report; its log"),
        (exit_news(-15, during="step", step=1), "SIGTERM in step 1: something else has told it to"),
    ],
)
def test_what_the_worker_was_at_is_told(tmp_path: Path, news: dict[str, Any], told: str) -> None:
    assert told in describe_death(news, tmp_path / "no log", tmp_path)


def test_the_last_crash_of_a_log_counts_and_an_ordinary_log_holds_none(tmp_path: Path) -> None:
    _, log = die(tmp_path, "segfault")
    text = log.read_text()
    assert find_crash("loss 0.3\nTraceback (most recent call last):\nValueError: no\n") is None
    assert find_crash("") is None
    first = text.replace("line 4 in step", "line 9 in step")
    crash = find_crash(first + text, tmp_path)
    assert crash is not None
    assert (crash.what, crash.place) == ("Segmentation fault", "trainer.py:4, in step()")
