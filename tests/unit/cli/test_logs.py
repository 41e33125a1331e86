"""Logs are shown whatever their size, and whatever becomes of them meanwhile."""

from __future__ import annotations

import os
import tracemalloc
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.cli import log_files
from hippo.cli.logs import logs
from hippo.cli.render.output import LogOutput
from hippo.store import StoreError
from hippo.store.directory import DirectoryBlobs
from tests.unit.gc.stored import StoredPlan

LARGE = 64 << 20  # bytes


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The only log of a study ``s`` in a store."""
    plan = StoredPlan(DirectoryBlobs(tmp_path / "store"), "default")
    plan.add_study("s", {"lr": 0.1})
    folder = tmp_path / "store" / "logs" / plan.store.plan
    folder.mkdir(parents=True)
    return folder / "r1-00001.log"


def show(log: Path, *, tail: int | None = None, follow: bool = False) -> None:
    store = str(log.parents[3])
    logs("s", trial=None, follow=follow, tail=tail, store=store, namespace=None)


@pytest.mark.slow
@given(st.lists(st.sampled_from([b"a", b"\n", b"\n\n", b"bcdefgh"])), st.integers(0, 9))
def test_the_last_lines_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], lines: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "log"
    file.write_bytes(b"".join(parts))
    with pytest.MonkeyPatch.context() as patched, file.open("rb") as log:
        patched.setattr(log_files, "_READ", 3)
        size = file.stat().st_size
        begin = log_files._find_tail(log, size, lines)
    with file.open("rb") as log:
        assert file.read_bytes()[begin:] == b"".join(deque(log, lines))


@pytest.mark.slow
@pytest.mark.parametrize("tail", [None, 1, 2])
@pytest.mark.parametrize("follow", [False, True])
def test_a_log_may_be_larger_than_memory(
    log: Path, tail: int | None, follow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log.open("wb") as file:
        file.truncate(LARGE)  # sparse, and one line
        file.seek(LARGE)
        file.write(b"\nlast\n")
    sizes = []
    monkeypatch.setattr(LogOutput, "write", lambda _, data: sizes.append(len(data)))
    tracemalloc.start()
    try:
        show(log, tail=tail, follow=follow)
        assert tracemalloc.get_traced_memory()[1] < LARGE // 8
    finally:
        tracemalloc.stop()
    whole = len(b"==> r1-00001 <==\n") + LARGE + len(b"\nlast\n")
    assert sum(sizes) == (whole if tail != 1 else whole - LARGE - 1)


def test_a_log_that_begins_anew_is_shown_anew(
    log: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    output = LogOutput()
    log.write_bytes(b"one\ntwo\n")
    shown = log_files._copy(log, output)
    log.write_bytes(b"three\n")
    assert log_files._copy(log, output, shown) == len(b"three\n")
    assert capfdbinary.readouterr().out == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("follow", [False, True])
def test_a_log_that_is_none_hides_no_other(
    log: Path, follow: bool, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log.write_bytes(b"a line\n")
    for number in range(2):
        os.mkfifo(log.with_name(f"pipe-{number}.log"))
    if follow:
        show(log, follow=True)
    else:
        with pytest.raises(StoreError, match=r"pipe-\d.log: it is no regular file"):
            show(log)
    told = capfdbinary.readouterr()
    assert told.out == b"==> r1-00001 <==\na line\n"
    assert told.err.count(b"it is no regular file") == 1 + follow
