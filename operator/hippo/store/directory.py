"""Blobs in a directory: the default store, on a local disk or a shared file system.

A blob is written to a temporary file below ``.tmp``, flushed to the device, then linked or renamed
to its name, then the directory is flushed: one flush of a file and one of a directory for each
blob.

A writer holds an advisory lock (flock) on its temporary file. The kernel drops it with the process,
so a later writer can tell the left-overs of a killed one, and sweeps only those.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from hippo.store.blobs import (
    BlobInfo,
    MissingBlob,
    StoreError,
    check_name,
    check_prefix,
    check_size,
    is_name,
)

_TEMPORARY = ".tmp"  # no name begins with a dot, so this is never a blob's folder
_ATTEMPTS = 100  # against a neighbour that removes the emptied folder just made
_NO_FLOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_NO_LINK = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_REMEDIES = {
    errno.ENOSPC: "no space left: free some, or use another --store; what is stored is kept",
    errno.EDQUOT: "disk quota exceeded: free some, or use another --store; what is stored is kept",
    errno.EFBIG: "larger than a file may be: raise the limit (ulimit -f), or use another --store",
    errno.EACCES: "permission denied: give this user access to it, or use another --store",
    errno.EPERM: "permission denied: give this user access to it, or use another --store",
    errno.EROFS: "the file system is read-only: use another --store",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.EIO: "the device fails (input/output error): use another --store",
    errno.ENAMETOOLONG: "the path is too long: use another --store",
}


class DirectoryBlobs:
    """A directory as Blobs. The first put makes it; one that does not exist is empty."""

    is_remote = False

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(root)
        self._base = os.path.join(self._root, "")
        self._temporary = self._base + _TEMPORARY
        self._swept = False

    def __str__(self) -> str:
        return self._root

    def put(
        self,
        name: str,
        chunks: bytes | Iterable[bytes | memoryview],
        *,
        if_absent: bool = False,
    ) -> bool:
        target = self._base + check_name(name)
        with self._explained("write", target):
            if if_absent and _is_blob(target):
                # The first writer may not have come to this line: a False promises durability, too.
                _flush_directory(os.path.dirname(target))
                return False
            if not self._swept:
                self._swept = True
                self._sweep()
            descriptor, temporary = self._open_temporary()
            try:
                for chunk in (chunks,) if isinstance(chunks, bytes) else chunks:
                    _write(descriptor, chunk)
                os.fsync(descriptor)
                first = self._publish(temporary, target, if_absent=if_absent)
                _flush_directory(os.path.dirname(target))
                return first
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                os.close(descriptor)

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        # Through a buffer, a read goes on until it has so many bytes; the kernel stops at 2 GiB.
        with self._open(name, buffering=0 if at_most is None else -1) as file:
            try:
                return file.read() if at_most is None else _read_bounded(file, name, at_most)
            except OSError as error:
                raise self._explain(error, "read", self._base + name) from error

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        with self._open(name) as file:
            yield file

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        folder = check_prefix(prefix).rpartition("/")[0]
        check_prefix(after)
        with self._explained("list", self._base + prefix):
            found = [
                info
                for info in self._walk(folder)
                if info.name.startswith(prefix) and info.name > after
            ]
        found.sort()
        return found

    def delete(self, name: str) -> None:
        target = self._base + check_name(name)
        with self._explained("delete", target):
            try:
                os.unlink(target)
            except FileNotFoundError:
                return
            except (IsADirectoryError, NotADirectoryError, PermissionError):
                self._check_root()
                if _is_below_a_file(target) or os.path.isdir(target):
                    return
                raise
        with contextlib.suppress(OSError):  # not empty, or somebody else's turn
            folder = os.path.dirname(target)
            while folder != self._root:
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    def clean(self, *, older_than_seconds: float) -> int:
        """Writers that live are known by their locks, whenever they began."""
        return self._sweep()

    def _open(self, name: str, *, buffering: int = -1) -> BinaryIO:
        path = self._base + check_name(name)
        try:
            return open(path, "rb", buffering)
        except IsADirectoryError:
            raise MissingBlob(f"there is no {name} in {self._root}") from None
        except FileNotFoundError as error:
            if os.path.islink(path):
                raise self._explain(error, "read", path) from error
            self._check_root()
            raise MissingBlob(f"there is no {name} in {self._root}") from None
        except NotADirectoryError:
            self._check_root()
            raise MissingBlob(f"there is no {name} in {self._root}") from None
        except OSError as error:
            raise self._explain(error, "read", path) from error

    def _walk(self, folder: str) -> Iterator[BlobInfo]:
        pending = [folder]
        while pending:
            folder = pending.pop()
            start = folder + "/" if folder else ""
            try:
                entries = os.scandir(self._base + folder)
            except (FileNotFoundError, NotADirectoryError):
                self._check_root()
                continue
            with entries:
                for entry in entries:
                    name = start + entry.name
                    if entry.name.startswith(".") or not is_name(name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                        continue
                    try:
                        status = entry.stat()
                    except FileNotFoundError:
                        if os.path.islink(entry.path):
                            raise
                        continue  # it was deleted meanwhile
                    if stat.S_ISREG(status.st_mode):
                        yield BlobInfo(name, status.st_size)

    def _open_temporary(self) -> tuple[int, str]:
        """A new temporary file that is locked before anybody could have swept it."""
        for _ in range(_ATTEMPTS):
            path = f"{self._temporary}/{secrets.token_hex(12)}"
            try:
                descriptor = os.open(
                    path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
                )
            except FileNotFoundError:
                self._make_directory(self._temporary)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return descriptor, path
            except BlockingIOError:
                pass  # a sweeper was faster
            except OSError as error:
                if error.errno in _NO_FLOCK:
                    return descriptor, path  # nobody can lock here, so nobody sweeps either
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise StoreError(f"files vanish from {self._temporary}: use another --store")

    def _sweep(self) -> int:
        """Remove the temporary files of writers that are gone; in doubt they stay."""
        count = 0
        with contextlib.suppress(OSError), os.scandir(self._temporary) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    descriptor = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(entry.path)
                        count += 1
                    finally:
                        os.close(descriptor)
        return count

    def _publish(self, temporary: str, target: str, *, if_absent: bool) -> bool:
        for attempt in range(_ATTEMPTS):
            try:
                if if_absent:
                    os.link(temporary, target)
                else:
                    os.rename(temporary, target)
                return True
            except FileExistsError:
                if os.path.isdir(target):
                    raise
                return False
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
            except OSError as error:
                if if_absent and error.errno in _NO_LINK:
                    raise StoreError(
                        f"the file system of {self._root} has no hard links: use another --store"
                    ) from error
                raise
            self._make_directory(os.path.dirname(target))
        raise AssertionError("unreachable")

    def _make_directory(self, path: str) -> None:
        parent = os.path.dirname(path)
        for _ in range(_ATTEMPTS):
            try:
                os.mkdir(path)
            except FileExistsError:
                try:
                    mode = os.stat(path).st_mode
                except FileNotFoundError:
                    if os.path.islink(path):
                        self._check_root()
                    continue  # it was emptied, and removed again, meanwhile
                if not stat.S_ISDIR(mode):
                    raise
            except FileNotFoundError:
                self._make_directory(parent)
                continue
            return _flush_directory(parent)

    @contextlib.contextmanager
    def _explained(self, action: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explain(error, action, path) from error

    def _explain(self, error: OSError, action: str, path: str) -> StoreError:
        code = error.errno or 0
        if code in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            try:
                self._check_root()
            except StoreError as root_error:
                return root_error
            return StoreError(f"cannot {action} {path}: a file and a folder would share a name")
        if code == errno.ENOENT:
            try:
                self._check_root()
            except StoreError as root_error:
                return root_error
            link = os.fspath(error.filename or path)
            if os.path.islink(link):
                return StoreError(f"cannot {action} {link}: it is a link to what is not there")
        reason = _REMEDIES.get(code) or error.strerror or str(error)
        return StoreError(f"cannot {action} {path}: {reason}")

    def _check_root(self) -> None:
        """Raises StoreError if the store's own path, or one above it, is no directory."""
        path = self._root
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        if os.path.isdir(path):
            return
        if not os.path.exists(path):
            why = f"{path} is a link to what is not there: mount or make it, or use another --store"
        else:
            why = f"{path} is not a directory: use another --store"
        raise StoreError(f"the store cannot be {self._root}: {why}")


def _read_bounded(file: BinaryIO, name: str, at_most: int) -> bytes:
    """All of it, though it may grow meanwhile. Raises Unreadable, OSError."""
    size = os.fstat(file.fileno()).st_size
    check_size(name, size, at_most)
    data = file.read(size + 1)
    if len(data) > size:
        data += file.read(at_most + 1 - len(data))
        check_size(name, len(data), at_most)
    return data


def _write(descriptor: int, chunk: bytes | memoryview) -> None:
    rest = memoryview(chunk)
    if rest.nbytes:  # an empty array has no bytes to view
        rest = rest.cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _is_blob(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return True


def _is_below_a_file(path: str) -> bool:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return not os.path.isdir(path)


def _flush_directory(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # emptied and removed by a delete: there is nothing left to keep
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
