"""The logs of this machine's workers, which ``hippo logs`` shows."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import BinaryIO

from hippo.cli.render.output import LogOutput, complain, log_heading
from hippo.store import LockHeld, PlanLock, PlanStore, StoreError, folders
from hippo.views.stored_study import Named

LOCAL_LOGS = ".hippo-logs"
"""Beside a study whose store is no folder."""
_POLL_SECONDS = 0.3
_READ = 1 << 16


def find_folder(named: Named, study: str) -> Path | None:
    """Return the folder of logs of the study's plan on this machine; None if there is none."""
    if "://" in named.store.url:
        path = Path(study)
        root = (path.resolve().parent if path.is_file() else Path.cwd()) / LOCAL_LOGS
    else:
        root = Path(named.store.url) / "logs"
    folder = root / named.found[0].plan
    return folder if folder.is_dir() else None


def _open(file: Path) -> BinaryIO:
    """Open a log, following no symbolic link below the folder of all logs. Raises StoreError."""
    try:
        return open(folders.open_within(file.parents[3], file, os.O_RDONLY), "rb")
    except OSError as error:
        raise StoreError(f"cannot read {file}: {error.strerror}") from None


def show_files(
    named: Named, folder: Path, chains: set[str] | None, *, follow: bool, tail: int | None
) -> None:
    output = LogOutput()
    files = _list_files(folder, chains)
    if not files and not follow:
        raise StoreError(f"no worker has written a log in {folder}")
    if not follow:
        odd: list[StoreError] = []
        for file in files:
            try:
                _copy(file, output, tail=tail, head=log_heading(file.stem), is_headed=True)
            except StoreError as error:  # it hides no other
                odd.append(error)
        for other in odd[:-1]:
            complain(str(other))
        if odd:
            raise odd[-1]
        return
    store = PlanStore(named.store.blobs, named.found[0].plan)
    _follow_files(store, folder, chains, tail, output)


def _list_files(folder: Path, chains: set[str] | None) -> list[Path]:
    """Return the logs of the chains, or of all, the newest first."""
    found: list[tuple[float, str, Path]] = []
    for file in folder.glob("*.log"):
        if chains is None or file.stem in chains:
            with contextlib.suppress(FileNotFoundError):
                found.append((-file.lstat().st_mtime, file.name, file))
    return [file for _, _, file in sorted(found)]


def _follow_files(
    store: PlanStore, folder: Path, chains: set[str] | None, tail: int | None, output: LogOutput
) -> None:
    """Show new output until no driver works on the plan any more."""
    shown: dict[Path, int] = {}
    odd: set[Path] = set()
    last: Path | None = None

    def copy(file: Path, begin: int, tail: int | None = None) -> int:
        try:
            head = b"" if file == last else log_heading(file.stem)
            return _copy(file, output, begin, tail=tail, head=head)
        except StoreError as error:  # it hides no other
            if file not in odd:
                complain(str(error))
            odd.add(file)
            return begin

    for file in reversed(_list_files(folder, chains)):
        shown[file] = copy(file, 0, tail)
        if shown[file] and tail != 0:
            last = file
    while True:
        is_over = not _is_in_use(store)  # asked first: what is written before is still shown
        for file in reversed(_list_files(folder, chains)):
            before = shown.get(file, 0)
            shown[file] = copy(file, before)
            if shown[file] != before:
                last = file
        if is_over:
            return
        time.sleep(_POLL_SECONDS)


def _is_in_use(store: PlanStore) -> bool:
    try:
        PlanLock(store).check()
    except LockHeld:
        return True
    return False


def _copy(
    file: Path,
    output: LogOutput,
    begin: int = 0,
    *,
    tail: int | None = None,
    head: bytes = b"",
    is_headed: bool = False,
) -> int:
    """Show a log from a byte on, or its last lines, as it is now; returns its size.

    ``head`` is written first, if there is something to show or ``is_headed``. A log that has become
    shorter is shown from its beginning. It may be larger than memory. Raises StoreError.
    """
    with _open(file) as log:
        size = os.fstat(log.fileno()).st_size
        begin = begin if begin <= size else 0
        begin = begin if tail is None else _find_tail(log, size, tail)
        if is_headed and begin == size:
            output.write(head)
        log.seek(begin)
        while begin < size and (data := log.read(min(_READ, size - begin))):
            output.write(head + data)
            begin, head = begin + len(data), b""
        return begin


def _find_tail(log: BinaryIO, size: int, lines: int) -> int:
    """Return the byte at which the last lines begin."""
    end, missing = size, lines
    while end > 0 and lines > 0:
        begin = max(0, end - _READ)
        log.seek(begin)
        block = log.read(end - begin)
        at = len(block) - (end == size)  # a line break that ends the file begins no line
        while (at := block.rfind(b"\n", 0, max(0, at))) >= 0:
            missing -= 1
            if not missing:
                return begin + at + 1
        end = begin
    return 0 if lines > 0 else size
