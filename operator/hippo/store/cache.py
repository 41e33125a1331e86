"""A cache of checkpoints on local disk, so later chains on this machine skip the download.

An entry is a file named by the SHA-256 of its content, which is verified with every read. Thus an
entry is valid whichever worker, plan or study wrote it, nothing has to be durable, and a folder
shared by any number of processes needs no lock: entries appear by renaming, and a vanished entry is
a miss.

Only regular files with such names are entries, each counted by the space it really takes. Anything
else in the folder (links, folders, pipes, sparse files) is ignored.

The cache never causes a failure. An error is reported once, and from then on the cache is disabled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from io import FileIO

from hippo.store import folders

FOLDER_VARIABLE = "HIPPO_CACHE_DIR"
BYTES_VARIABLE = "HIPPO_CACHE_BYTES"
DEFAULT_BYTES = 10 << 30

_MOST_DIGITS = 18  # of a number of bytes
_ENTRY = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".new-"
_UNFINISHED_NAME = re.compile(r"\.new-[0-9a-f]{24}")
_ABANDONED_SECONDS = 600.0  # a live writer has written a block within that time
_BLOCK = 16 << 20  # bytes
_STAT_BLOCK = 512  # fixed by stat(2) for all file systems
_SPARED = 20  # 1/20 of the file system is left free for others


class CheckpointCache:
    """A folder of at most ``limit`` bytes that evicts the least recently used entries.

    Unfinished writes count in full, so the bound also holds with several writers.
    """

    def __init__(self, folder: str, limit: int, *, tell: Callable[[str], object]) -> None:
        self._folder = os.path.abspath(folder)
        self._limit = limit
        self._tell = tell
        self._is_given_up = False

    def get(self, sha256: str, size: int) -> bytes | None:
        """Returns the data with this hash, verified, or None. Damaged data is removed."""
        if self._is_given_up:
            return None
        _check(sha256)
        try:
            with folders.closing(folders.open_root(self._folder)) as within:
                descriptor = folders.open_file(sha256, os.O_RDONLY, within=within)
        except FileNotFoundError:
            return None
        except OSError as error:
            if folders.is_odd(error):
                self.drop(sha256)
            else:
                self._give_up(error)
            return None
        try:
            with open(descriptor, "rb", buffering=0) as file:
                data = _read(file, size) if os.fstat(descriptor).st_size == size else b""
                with contextlib.suppress(OSError):  # another user's file: it is only evicted sooner
                    os.utime(descriptor)
        except OSError as error:
            self._give_up(error)
            return None
        if len(data) == size and hashlib.sha256(data).hexdigest() == sha256:
            return data
        self.drop(sha256)
        return None

    def put(self, sha256: str, chunks: Sequence[bytes | memoryview]) -> None:
        """Stores data with this hash, if there is room for it."""
        if self._is_given_up:
            return
        _check(sha256)
        try:
            self._put(sha256, chunks)
        except FileNotFoundError:
            pass  # the folder was removed meanwhile
        except IsADirectoryError:
            pass  # a folder has its name
        except OSError as error:
            self._give_up(error)

    def drop(self, sha256: str) -> None:
        """Removes data that will not be needed again, if it is here."""
        if _ENTRY.fullmatch(sha256) is not None:
            with contextlib.suppress(OSError):
                os.unlink(f"{self._folder}/{sha256}")

    def clear(self) -> None:
        """Removes everything. Safe while others read or write."""
        with contextlib.suppress(OSError):
            for entry in self._scan():
                entry.remove()
            os.rmdir(self._folder)

    def _put(self, sha256: str, chunks: Sequence[bytes | memoryview]) -> None:
        views = [memoryview(chunk).cast("B") for chunk in chunks if memoryview(chunk).nbytes]
        size = sum(view.nbytes for view in views)
        if size > self._limit and not os.path.lexists(f"{self._folder}/{sha256}"):
            return
        os.makedirs(self._folder, exist_ok=True)
        with folders.closing(folders.open_root(self._folder)) as within:
            if _touch(sha256, size, within) or not self._make_room(size):
                return
            name = f"{_UNFINISHED}{secrets.token_hex(12)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = folders.open_file(name, flags, within=within, mode=0o644)
            try:
                if size and sys.platform == "linux":
                    os.posix_fallocate(descriptor, 0, size)  # so that other writers count it
                if sum(entry.size for entry in self._scan()) <= self._limit:
                    for view in views:
                        _write(descriptor, view)
                    os.rename(name, sha256, src_dir_fd=within, dst_dir_fd=within)
            finally:
                os.close(descriptor)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=within)

    def _make_room(self, size: int) -> bool:
        """Makes room for ``size`` bytes by evicting old entries; returns whether there is room."""
        entries = sorted(self._scan(), key=lambda entry: entry.used)
        taken = sum(entry.size for entry in entries)
        disk = os.statvfs(self._folder)
        free = (disk.f_bavail - disk.f_blocks / _SPARED) * disk.f_frsize
        limit = min(self._limit, taken + free) - size
        if limit < 0:
            return False
        for entry in entries:
            if taken <= limit:
                break
            if entry.may_leave and entry.remove():
                taken -= entry.size
        return taken <= limit

    def _scan(self) -> list[_Entry]:
        found = []
        now = time.time()
        with os.scandir(self._folder) as files:
            for file in files:
                is_unfinished = _UNFINISHED_NAME.fullmatch(file.name) is not None
                if not is_unfinished and _ENTRY.fullmatch(file.name) is None:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = file.stat(follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode):
                        continue
                    size = min(status.st_size, status.st_blocks * _STAT_BLOCK)
                    is_abandoned = abs(now - status.st_mtime) > _ABANDONED_SECONDS
                    used = status.st_mtime if status.st_mtime < now + _ABANDONED_SECONDS else 0.0
                    found.append(_Entry(file.path, size, used, not is_unfinished or is_abandoned))
        return found

    def _give_up(self, error: OSError) -> None:
        self._is_given_up = True
        reason = error.strerror or str(error)
        self._tell(f"checkpoints are not kept in {self._folder}: {reason}; going on without")


class _Entry:
    """A file of the cache."""

    def __init__(self, path: str, size: int, used: float, may_leave: bool) -> None:
        self.path = path
        self.size = size  # bytes
        self.used = used  # Unix time
        self.may_leave = may_leave  # not being written

    def remove(self) -> bool:
        """Removes the file; returns whether it is gone."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return True
        except OSError:  # perhaps another user's
            return False
        return True


def find_cache(
    *,
    tell: Callable[[str], object],
    default_folder: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> CheckpointCache | None:
    """Returns the cache that the environment configures, or None."""
    folder = environment.get(FOLDER_VARIABLE, "").strip() or default_folder
    text = environment.get(BYTES_VARIABLE, "").strip() or str(DEFAULT_BYTES)
    if not folder or text == "0":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        tell(f"{BYTES_VARIABLE} is {text[:40]!r}, not a number of bytes: going on without a cache")
        return None
    return CheckpointCache(folder, int(text), tell=tell)


def _check(sha256: str) -> None:
    if _ENTRY.fullmatch(sha256) is None:
        raise ValueError(f"not a SHA-256: {sha256!r}")


def _touch(name: str, size: int, within: int) -> bool:
    """Marks an entry of that size as just used; returns whether there is one."""
    try:
        descriptor = folders.open_file(name, os.O_RDONLY, within=within)
    except OSError:
        return False
    with folders.closing(descriptor):
        if os.fstat(descriptor).st_size != size:
            return False
        with contextlib.suppress(OSError):  # another user's file
            os.utime(descriptor)
        return True


def _read(file: FileIO, size: int) -> bytes:
    """Returns at most ``size`` bytes, even if the file grows meanwhile."""
    data = file.read(size) or b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def _write(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view[:_BLOCK]) :]
