"""Logs of workers stay in the folder of logs, whatever somebody has put there before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hippo.local.worker_server import WorkerServer, WorkersFailed
from hippo.session.crash_trace import read_end
from stage_runner.fork_server import _open_log

LOG = "logs/default/0123456789abcdef/r1-00001.log"
LEVELS = range(1, 5)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("precious")
    return folder


def place(root: Path, name: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_a_workers_log_is_written_through_no_link(
    tmp_path: Path, outside: Path, level: int
) -> None:
    link = place(tmp_path / "store", "/".join(LOG.split("/")[:level]))
    link.symlink_to(outside / "file" if level == 4 else outside)
    log = tmp_path / "store" / LOG
    with pytest.raises(OSError, match="is a symbolic link, which is not followed") as error:
        _open_log(str(log), str(tmp_path / "store"))
    assert str(link) in str(error.value)
    assert read_end(log, tmp_path / "store") == ""
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("file", "precious")]


@pytest.mark.parametrize(
    ("name", "make", "why"),
    [
        ("logs", lambda path, out: path.symlink_to(out), "logs is a symbolic link"),
        ("logs/server.log", lambda path, out: path.symlink_to(out / "new"), "is a symbolic link"),
        ("logs/server.log", lambda path, out: os.link(out / "file", path), "is a hard link"),
        ("logs/server.log", lambda path, out: os.mkfifo(path), "it is no regular file"),
        ("logs", lambda path, out: path.write_text(""), "Not a directory"),
    ],
)
def test_a_run_begins_with_logs_of_its_own_or_not_at_all(
    tmp_path: Path, outside: Path, name: str, make: Callable[[Path, Path], None], why: str
) -> None:
    make(place(tmp_path / "store", name), outside)
    with pytest.raises(WorkersFailed, match=why) as error:
        WorkerServer(
            store="unused",
            threads=1,
            path=tmp_path,
            entrypoint="t:T",
            logs=tmp_path / "store" / "logs",
        )
    assert str(error.value).startswith(f"logs cannot be kept in {tmp_path}/store/logs: ")
    assert "\n" not in str(error.value)
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("file", "precious")]


def test_the_folder_that_holds_the_logs_may_be_a_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "store").symlink_to(outside)
    log = tmp_path / "store" / LOG
    descriptor = _open_log(str(log), str(tmp_path / "store"))
    os.write(descriptor, b"hello\n")
    os.close(descriptor)
    assert (outside / LOG).read_text() == "hello\n"
    assert read_end(log, tmp_path / "store") == "hello\n"
    descriptor = _open_log(str(log), None)
    assert os.get_blocking(descriptor)
    os.close(descriptor)
