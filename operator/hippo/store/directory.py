"""Blobs in a directory: the default store, on a local disk or a shared file system.

A blob is written to a temporary file below ``.tmp``, flushed to the device, then linked or renamed
to its name, and the directory is flushed: one flush of a file and one of a directory per blob.

A writer holds an advisory lock (flock) on its temporary file. The kernel releases it when the
process ends, so a later writer recognises the leftovers of killed writers and removes only those.

Others may write to the directory, so symbolic links in it are not followed: see ``folders``.
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

from hippo.store import folders
from hippo.store.blobs import (
    BlobInfo,
    LinkInside,
    MissingBlob,
    StoreError,
    check_name,
    check_prefix,
    check_size,
)
from hippo.store.directory_listing import Listing

_TEMPORARY = ".tmp"  # no name begins with a dot, so this is never a blob's folder
_NOT_FOLLOWED = (
    "is a symbolic link, which is not followed: remove it, or put there what it leads to"
)
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
    """A directory as Blobs. The first put creates it; a missing one is empty.

    The root may be a symbolic link; one below it raises LinkInside and is never followed.
    """

    is_remote = False

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(root)
        self._base = os.path.join(self._root, "")
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
        check_name(name)
        with self._explained("write", name):
            if if_absent and self._is_there(name):
                return False
            if not self._swept:
                self._swept = True
                self._sweep()
            with folders.closing(self._enter(_TEMPORARY)) as within:
                descriptor, temporary = self._open_temporary(within)
                try:
                    for chunk in (chunks,) if isinstance(chunks, bytes) else chunks:
                        _write(descriptor, chunk)
                    os.fsync(descriptor)
                    return self._publish(within, temporary, name, if_absent=if_absent)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temporary, dir_fd=within)
                    os.close(descriptor)

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        # A buffered read continues until it has enough bytes; the kernel stops at 2 GiB.
        with self._open(name, buffering=0 if at_most is None else -1) as file:
            try:
                return file.read() if at_most is None else _read_bounded(file, name, at_most)
            except OSError as error:
                raise self._explain(error, "read", name) from error

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        with self._open(name) as file:
            yield file

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        check_prefix(prefix)
        check_prefix(after)
        listing = Listing(prefix, after)
        with self._explained("list", prefix):
            pending = [prefix.rpartition("/")[0]]
            while pending:
                folder = pending.pop()
                try:
                    descriptor = folders.open_path(self._root, folder)
                except FileNotFoundError:
                    self._check_root()
                    continue
                except NotADirectoryError:
                    self._check_root()
                    if folders.find_link(self._root, folder) is not None:
                        raise
                    continue
                with folders.closing(descriptor):
                    pending += listing.read(descriptor, folder)
        listing.found.sort()
        if listing.links:
            links = sorted(listing.links)
            more = f" (and {len(links) - 1} more)" if len(links) > 1 else ""
            told = f"cannot list {self._base}{prefix}: {self._base}{links[0]}{more} {_NOT_FOLLOWED}"
            raise LinkInside(told, links, listing.found)
        return listing.found

    def delete(self, name: str) -> None:
        check_name(name)
        *above, last = name.split("/")
        opened: list[int] = []
        try:
            with self._explained("delete", name):
                try:
                    opened.append(folders.open_root(self._root))
                    for part in above:
                        opened.append(folders.open_folder(part, within=opened[-1]))
                except NotADirectoryError:
                    if folders.find_link(self._root, name) is not None:
                        raise
                    self._check_root()
                    return
                except FileNotFoundError:
                    return
                try:
                    os.unlink(last, dir_fd=opened[-1])
                except FileNotFoundError:
                    return
                except (IsADirectoryError, PermissionError):
                    if _is_folder(last, opened[-1]):
                        return
                    raise
            with contextlib.suppress(OSError):  # not empty, or removed by another process
                for part, within in zip(reversed(above), reversed(opened[:-1]), strict=True):
                    os.rmdir(part, dir_fd=within)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def clean(self, *, older_than_seconds: float) -> int:
        """Removes temporary files of dead writers, whatever their age: live writers hold locks."""
        return self._sweep()

    def _open(self, name: str, *, buffering: int = -1) -> BinaryIO:
        folder, _, last = check_name(name).rpartition("/")
        try:
            within = folders.open_path(self._root, folder)
            try:
                descriptor = folders.open_file(last, os.O_RDONLY, within=within)
            finally:
                os.close(within)
            return open(descriptor, "rb", buffering)
        except IsADirectoryError:
            raise MissingBlob(f"there is no {name} in {self._root}") from None
        except (FileNotFoundError, NotADirectoryError) as error:
            if folders.find_link(self._root, name) is not None:
                raise self._explain(error, "read", name) from error
            self._check_root()
            raise MissingBlob(f"there is no {name} in {self._root}") from None
        except OSError as error:
            raise self._explain(error, "read", name) from error

    def _is_there(self, name: str) -> bool:
        """Whether a blob exists durably: its first writer may not have flushed the folder yet.

        Raises IsADirectoryError.
        """
        folder, _, last = name.rpartition("/")
        try:
            with folders.closing(folders.open_path(self._root, folder)) as within:
                mode = os.stat(last, dir_fd=within, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
                os.fsync(within)
        except FileNotFoundError:
            return False
        return True

    def _enter(self, folder: str) -> int:
        """Opens a folder of the store, created durably if it is missing. The caller closes it."""
        for _ in range(folders.ATTEMPTS):  # others may remove it while it is empty
            try:
                descriptor = folders.open_root(self._root)
            except FileNotFoundError:
                folders.make_root(self._root, self._check_root)
                continue
            try:
                for part in folder.split("/") if folder else ():
                    below = folders.enter_or_make(part, descriptor)
                    os.close(descriptor)
                    descriptor = below
                return descriptor
            except FileNotFoundError:
                os.close(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
        raise StoreError(f"{self._base}{folder} vanishes again and again: use another --store")

    def _open_temporary(self, within: int) -> tuple[int, str]:
        """Creates a temporary file, locked before any sweeper can remove it."""
        for _ in range(folders.ATTEMPTS):
            name = secrets.token_hex(12)
            descriptor = folders.open_file(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, within=within
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return descriptor, name
            except BlockingIOError:
                pass  # a sweeper was faster
            except OSError as error:
                if error.errno in _NO_FLOCK:
                    return descriptor, name  # without locks, no process sweeps either
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise StoreError(f"files vanish from {self._base}{_TEMPORARY}: use another --store")

    def _sweep(self) -> int:
        """Removes the temporary files of dead writers; keeps files in doubt."""
        count = 0
        try:
            folder = folders.open_path(self._root, _TEMPORARY)
        except OSError:
            return count
        with folders.closing(folder):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    descriptor = folders.open_file(name, os.O_RDWR, within=folder)
                    with folders.closing(descriptor):
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(name, dir_fd=folder)
                        count += 1
        return count

    def _publish(self, within: int, temporary: str, name: str, *, if_absent: bool) -> bool:
        """Gives a temporary file its name, durably; returns False if the name is taken."""
        folder, _, last = name.rpartition("/")
        for attempt in range(folders.ATTEMPTS):
            with folders.closing(self._enter(folder)) as target:
                try:
                    if if_absent:
                        _link(temporary, last, within, target)
                    else:
                        os.rename(temporary, last, src_dir_fd=within, dst_dir_fd=target)
                except FileExistsError:
                    if _is_folder(last, target):
                        raise
                    os.fsync(target)
                    return False
                except FileNotFoundError:  # the empty folder was removed meanwhile
                    if attempt == folders.ATTEMPTS - 1:
                        raise
                    continue
                except OSError as error:
                    if if_absent and error.errno in _NO_LINK:
                        raise StoreError(
                            f"the file system of {self._root} has no hard links:"
                            " use another --store"
                        ) from error
                    raise
                os.fsync(target)
                return True
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _explained(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explain(error, action, name) from error

    def _explain(self, error: OSError, action: str, name: str) -> StoreError:
        code = error.errno or 0
        path = self._base + name
        if code in folders.LINK_ERRORS:
            for tried in (name, _TEMPORARY) if action == "write" else (name,):
                link = folders.find_link(self._root, tried)
                if link is not None:
                    return LinkInside(f"cannot {action} {path}: {link} {_NOT_FOLLOWED}")
        if code in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT):
            try:
                self._check_root()
            except StoreError as root_error:
                return root_error
        if code in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            return StoreError(f"cannot {action} {path}: a file and a folder would share a name")
        if folders.is_irregular(error):
            return StoreError(f"cannot {action} {path}: it is no regular file: remove it")
        reason = _REMEDIES.get(code) or error.strerror or str(error)
        return StoreError(f"cannot {action} {path}: {reason}")

    def _check_root(self) -> None:
        """Raises StoreError if the store's path, or one above it, is not a directory."""
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
    """Returns the whole file, which may grow meanwhile. Raises Unreadable, OSError."""
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


def _link(source: str, target: str, within: int, other: int) -> None:
    os.link(source, target, src_dir_fd=within, dst_dir_fd=other, follow_symlinks=False)


def _is_folder(name: str, within: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)
    except OSError:
        return False
