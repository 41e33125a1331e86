"""Where in their own code users are led to."""

from __future__ import annotations

import runpy
import sys
import threading
from pathlib import Path

import pytest

from stage_runner.failures import describe, describe_thread


def fail(file: Path) -> BaseException:
    with pytest.raises(ValueError, match="too large") as caught:
        runpy.run_path(str(file))
    return caught.value


def test_the_place_is_told_below_the_trainers_folder(tmp_path: Path) -> None:
    file = tmp_path / "models" / "trainer.py"
    file.parent.mkdir()
    file.write_text("def fail():\n    raise ValueError('too large')\n\nfail()\n")
    assert describe(fail(file), tmp_path) == "ValueError: too large (models/trainer.py:2)"


def test_files_of_a_configmap_go_by_their_names(tmp_path: Path) -> None:
    hidden = tmp_path / "..2026_11_25_22_42_40.3509522125"
    hidden.mkdir()
    (hidden / "trainer.py").write_text("raise ValueError('too large')\n")
    (tmp_path / "..data").symlink_to(hidden.name)
    (tmp_path / "trainer.py").symlink_to("..data/trainer.py")
    error = fail(tmp_path / "trainer.py")
    assert describe(error, tmp_path) == "ValueError: too large (trainer.py:1)"


def test_a_linked_folder_is_the_trainers_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "trainer.py").write_text("raise ValueError('too large')\n")
    (tmp_path / "link").symlink_to("real")
    error = fail(tmp_path / "link" / "trainer.py")
    assert describe(error, tmp_path / "real") == "ValueError: too large (trainer.py:1)"


def catch(tmp_path: Path, lines: str) -> str:
    """What is said of the exception that these lines of a trainer raise."""
    file = tmp_path / "trainer.py"
    file.write_text(lines)
    try:
        runpy.run_path(str(file))
    except BaseException as error:
        told = describe(error, tmp_path)
        assert told.isprintable()
        return told
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt (trainer.py:1)"),
        ("raise BaseException('odd one')", "BaseException: odd one (trainer.py:1)"),
        ("raise GeneratorExit", "GeneratorExit (trainer.py:1)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (trainer.py:2)"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError (trainer.py:2)"),
        ("next(iter([]))", "StopIteration (trainer.py:1)"),
        ("raise MemoryError", "MemoryError (trainer.py:1)"),
        ("[0][1]", "IndexError: list index out of range (trainer.py:1)"),
        ("raise ValueError('one\\ntwo')", "ValueError: one two (trainer.py:1)"),
        ("raise ValueError('\\x07\\udcff\\0')", r"ValueError: \x07\udcff\x00 (trainer.py:1)"),
        ("raise ValueError('x' * 10**7)", f"ValueError: {'x' * 297}... (trainer.py:1)"),
        (
            "class Mute(Exception):\n  def __str__(self): raise KeyError(1)\nraise Mute",
            "Mute: its message cannot be read (KeyError) (trainer.py:3)",
        ),
        (
            "class Rude(Exception):\n  def __str__(self): raise SystemExit\nraise Rude",
            "Rude: its message cannot be read (SystemExit) (trainer.py:3)",
        ),
        (
            "class Vague(Exception):\n  def __str__(self): return 7\nraise Vague",
            "Vague: its message cannot be read (TypeError) (trainer.py:3)",
        ),
        (
            "def f():\n  raise ValueError('one')\ntry:\n  f()\nexcept ValueError as e:\n"
            "  raise ExceptionGroup('both', [e, ExceptionGroup('more', [KeyError('two')])])",
            "ExceptionGroup (both): ValueError: one (trainer.py:2); KeyError: 'two'",
        ),
        (
            "raise BaseExceptionGroup('all', [KeyboardInterrupt(str(n)) for n in range(5)])",
            "BaseExceptionGroup (all): KeyboardInterrupt: 0; KeyboardInterrupt: 1;"
            " KeyboardInterrupt: 2; 2 more",
        ),
        (
            "def f(): return 1 + f()\nf()",
            "RecursionError: maximum recursion depth exceeded (trainer.py:1)",
        ),
    ],
)
def test_whatever_is_raised_has_a_name_a_message_and_a_place(
    tmp_path: Path, lines: str, told: str
) -> None:
    assert catch(tmp_path, lines) == told


def test_what_another_process_quotes_is_told_as_it_was_said(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("def load():\n    raise OSError('no such shard')\n")
    quoting = (
        "import sys, traceback\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import data\n"
        "try:\n"
        "    data.load()\n"
        "except OSError as error:\n"
        "    said = traceback.format_exc()\n"
        "raise {}('Caught in DataLoader worker process 0.\\nOriginal ' + said)\n"
    )
    for kind in ("OSError", "RuntimeError"):
        assert catch(tmp_path, quoting.format(kind)) == "OSError: no such shard (data.py:2)"
        sys.modules.pop("data")


def test_a_thread_is_told_by_the_trainers_own_frame(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(
        "import threading\n\n\ndef wait(event):\n    event.wait()\n"
    )
    namespace = runpy.run_path(str(tmp_path / "waiting.py"))
    event = threading.Event()
    thread = threading.Thread(target=namespace["wait"], args=(event,))
    thread.start()
    try:
        assert thread.ident is not None
        while True:
            place, stack = describe_thread(thread.ident, tmp_path)
            if "within threading.py" in place:
                break
    finally:
        event.set()
        thread.join()
    assert place.startswith("waiting.py:5, in wait(), within threading.py:")
    assert stack.index("in wait") < stack.rindex("in wait")
    assert describe_thread(thread.ident, tmp_path) == ("", "")


def test_what_a_process_pool_raises_has_the_place_in_its_worker(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text("def load(n):\n    raise OSError('no such shard')\n")
    pooling = (
        "import concurrent.futures, multiprocessing, sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import data\n"
        "fork = multiprocessing.get_context('fork')\n"
        "with concurrent.futures.ProcessPoolExecutor(1, fork) as pool:\n"
        "    pool.submit(data.load, 1).result()\n"
    )
    assert catch(tmp_path, pooling) == "OSError: no such shard (data.py:2)"
    sys.modules.pop("data")
