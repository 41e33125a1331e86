"""Documents are read by another process: as by the model, or within its limits not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.kube import spec_parser as module
from hippo.kube.spec_parser import MAX_PROBLEM, MAX_PROBLEMS, ParserFailed, SpecParser, TooCostly
from hippo.model import InvalidSpec, Sequence, parse_study
from tests import strategies
from tests.unit.kube.memory import NAMESPACE, study_document


@pytest.fixture
def parser() -> Iterator[SpecParser]:
    made = SpecParser()
    yield made
    made.close()


def document(**spec: Any) -> dict[str, Any]:
    return study_document("a", **spec)


@settings(max_examples=30)
@given(strategies.spaces(), st.integers(-1, 60))
def test_it_reads_what_the_model_reads(space: dict[str, Any], steps: int) -> None:
    given = document(space=space, steps=steps)
    if steps < 1:
        with pytest.raises(InvalidSpec) as expected:
            parse_study(given)
        with pytest.raises(InvalidSpec) as caught:
            module.SHARED.parse_study(given, NAMESPACE)
        assert caught.value.errors == expected.value.errors
        assert type(caught.value) is InvalidSpec
        return
    study, found = parse_study(given), module.SHARED.parse_study(given, NAMESPACE)
    assert found == study
    assert [*found.search_space().enumerate()] == [*study.search_space().enumerate()]


@pytest.mark.slow
def test_one_process_reads_all_that_costs_little(parser: SpecParser) -> None:
    assert parser.pid is None
    parser.parse_study(document(), NAMESPACE)
    pid = parser.pid
    assert pid not in (None, os.getpid())
    with pytest.raises(InvalidSpec, match=r"spec\.steps: must be at least 1"):
        parser.parse_study(document(steps=0), NAMESPACE)
    parser.check_sequence({"lr": 0.1}, 10, NAMESPACE)
    assert parser.pid == pid
    parser.close()
    assert not Path(f"/proc/{pid}").exists()
    parser.parse_study(document(), NAMESPACE)
    assert parser.pid not in (None, pid)


def many(count: int) -> dict[str, Any]:
    """A document of about 60 bytes for each 10,000 pieces, all different."""
    lrs = [
        {"step": {"initial": 0.1, "gamma": round(0.9999 - i * 1e-8, 10), "every": 10}}
        for i in range(count)
    ]
    return {"lr": {"piecewise": [[0, 0.1], [1, lrs[0]]]}, **{f"x{i}": x for i, x in enumerate(lrs)}}


@pytest.mark.slow
def test_what_takes_too_long_is_refused_and_the_next_is_read_by_another() -> None:
    parser = SpecParser(seconds=0.3)
    try:
        parser.parse_study(document(), NAMESPACE)
        before = parser.pid
        with pytest.raises(TooCostly, match=r"^spec: takes more than 0\.3 s to read: give its"):
            parser.check_sequence(many(30), 100_000, NAMESPACE)
        assert not Path(f"/proc/{before}").exists()
        assert parser.parse_study(document(), NAMESPACE) == parse_study(document())
    finally:
        parser.close()


@pytest.mark.slow
def test_what_needs_too_much_memory_is_refused() -> None:
    parser = SpecParser(memory=8 << 20)
    try:
        with pytest.raises(TooCostly, match=r"^spec: needs more than 8 MiB to be read: give its"):
            parser.check_sequence(many(10), 100_000, NAMESPACE)
        assert parser.parse_study(document(), NAMESPACE) == parse_study(document())
    finally:
        parser.close()


@pytest.mark.slow
def test_a_sequence_that_would_fill_the_operators_memory_is_refused(
    parser: SpecParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = many(1)["x0"]
    size = Sequence.of({"lr": large}, 100_000).runs("lr").size
    monkeypatch.setattr(module, "MAX_SEQUENCE_BYTES", size)
    parser.check_sequence({"lr": large}, 100_000, NAMESPACE)
    with pytest.raises(TooCostly, match="once it is worked out"):
        parser.check_sequence({"lr": large, "x": 0.1}, 100_000, NAMESPACE)


@pytest.mark.slow
def test_one_that_hangs_is_not_waited_for() -> None:
    parser = SpecParser(wall_seconds=2.0)
    try:
        parser.parse_study(document(), NAMESPACE)
        hanging = parser.pid
        assert hanging is not None
        os.kill(hanging, signal.SIGSTOP)
        with pytest.raises(ParserFailed, match="does not get on"):
            parser.parse_study(document(), NAMESPACE)
        assert not Path(f"/proc/{hanging}").exists()
        parser.parse_study(document(), NAMESPACE)
    finally:
        parser.close()


@pytest.mark.slow
def test_one_that_was_ended_is_followed_by_another(parser: SpecParser) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        parser.parse_study(document(), NAMESPACE)
        assert parser.pid is not None
        os.kill(parser.pid, number)
        assert parser.parse_study(document(), NAMESPACE) == parse_study(document())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (signal.SIGSEGV, InvalidSpec, r"spec: cannot be read: .*was ended by SIGSEGV"),
        (signal.SIGKILL, ParserFailed, "the process that reads was ended by SIGKILL"),
    ],
)
def test_a_document_at_which_each_reader_ends(
    parser: SpecParser,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    error: type[Exception],
    words: str,
) -> None:
    """By itself: it is refused. By others, who need its memory: it is read later."""
    asked: list[int] = []
    ask = module._Worker.ask

    def end(worker: Any, question: Any, wall_seconds: float) -> Any:
        asked.append(worker.pid)
        os.kill(worker.pid, number)
        return ask(worker, question, wall_seconds)

    monkeypatch.setattr(module._Worker, "ask", end)
    with pytest.raises(error, match=words) as caught:
        parser.parse_study(document(), NAMESPACE)
    assert not isinstance(caught.value, TooCostly)
    assert len(set(asked)) == 2


def test_where_no_process_can_be_started_no_document_is_to_blame(
    parser: SpecParser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for python in (tmp_path / "none", Path("/bin/false")):
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(ParserFailed, match="no process can be started that reads: "):
            parser.parse_study(document(), NAMESPACE)
    monkeypatch.undo()
    assert parser.parse_study(document(), NAMESPACE) == parse_study(document())


def test_it_knows_no_credentials(parser: SpecParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    parser.parse_study(document(), NAMESPACE)
    environment = Path(f"/proc/{parser.pid}/environ").read_bytes()
    assert b"secret" not in environment
    assert b"PATH=" in environment


@pytest.mark.slow
def test_problems_are_few_and_short(parser: SpecParser) -> None:
    odd = {f"x{'y' * 2000}{i}": {"choices": []} for i in range(500)}
    with pytest.raises(InvalidSpec) as caught:
        parser.parse_study(document(space=odd), NAMESPACE)
    assert 1 < len(caught.value.errors) <= MAX_PROBLEMS + 1
    for path, message in caught.value.errors:
        assert len(path) <= MAX_PROBLEM
        assert len(message) <= MAX_PROBLEM


def test_one_document_of_a_namespace_waits_at_a_time(parser: SpecParser) -> None:
    """So that those of others come to their turn, however many it has."""
    order: list[str] = []

    def read(namespace: str) -> None:
        parser.parse_study(document(), namespace)
        order.append(namespace)

    threads = []
    with parser._worker_lock:  # a document is being read
        for count, name in enumerate(["bad", "bad", "bad", "good", "bad"], 1):
            threads.append(threading.Thread(target=read, args=(name,)))
            threads[-1].start()
            while sum(queue.users for queue in parser._turns.values()) < count:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order[:2] in (["bad", "good"], ["good", "bad"])
    assert not parser._turns


@pytest.mark.slow
def test_it_reads_under_limits_that_somebody_has_set() -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "from hippo.kube.spec_parser import SHARED\n"
        "SHARED.check_sequence({'lr': 0.1}, 10, 'n')\n"
        "print('read')\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "read\n", found.stderr


@pytest.mark.slow
def test_it_ends_with_the_operator() -> None:
    code = (
        "import os\n"
        "from hippo.kube.spec_parser import SHARED\n"
        "SHARED.check_sequence({'lr': 0.1}, 10, 'n')\n"
        "print(SHARED.pid, flush=True)\n"
        "os._exit(1)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(found.stdout)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and "Z" not in _state(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
