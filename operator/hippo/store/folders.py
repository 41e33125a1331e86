"""Opens files below a folder that others may write to, component by component.

No symbolic link below the root is followed, whenever it is created: each step opens one name in a
folder that is already open (``openat`` with ``O_NOFOLLOW``), so there is no race between check and
use. The root itself may be a link. Files are opened without blocking and must be regular, so a pipe
cannot block a reader. Requires POSIX.1-2008: Linux and macOS have it.

All functions raise OSError as the system does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FOLDER = _ROOT | os.O_NOFOLLOW
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ATTEMPTS = 1000  # bounds races with others that remove a folder while it is empty
LINK_ERRORS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
"""Errors for a link that was not followed; the second and third also have other causes."""


def open_root(path: str) -> int:
    return os.open(path, _ROOT)


def open_folder(name: str, *, within: int) -> int:
    """Opens a folder directly in an open one."""
    return os.open(name, _FOLDER, dir_fd=within)


def open_path(root: str, folder: str) -> int:
    """Opens a folder below ``root`` by its relative path; "" is the root itself."""
    descriptor = os.open(root, _ROOT)
    if folder:
        for name in folder.split("/"):  # a hot path of small reads
            try:
                below = os.open(name, _FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
    return descriptor


def open_file(name: str, flags: int, *, within: int, mode: int = 0o666) -> int:
    """Opens a regular file directly in an open folder; EINVAL for a pipe, a socket or a device."""
    try:
        descriptor = os.open(name, flags | _FILE, mode, dir_fd=within)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe without a reader
            raise _irregular(name) from None
        raise
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    raise _irregular(name)


def open_within(root: str | Path, path: str | Path, flags: int, *, make: bool = False) -> int:
    """Opens a file at a path below a root; ``make`` creates the folders on the way.

    A file opened for writing must not have hard links. Errors explain themselves in strerror.
    """
    name = os.path.relpath(path, root)
    folder, last = os.path.split(name)
    try:
        with closing(enter(root, folder) if make else open_path(str(root), folder)) as within:
            descriptor = open_file(last, flags, within=within, mode=0o644)
    except OSError as error:
        link = find_link(str(root), name) if error.errno in LINK_ERRORS else None
        if link is None:
            raise
        raise OSError(errno.ELOOP, f"{link} is a symbolic link, which is not followed") from None
    if flags & (os.O_WRONLY | os.O_RDWR):
        if os.fstat(descriptor).st_nlink > 1:
            os.close(descriptor)
            raise OSError(errno.EMLINK, f"{path} is a hard link")
        os.set_blocking(descriptor, True)
    return descriptor


def enter(root: str | Path, folder: str) -> int:
    """Opens a folder below an existing root, created if missing, not durably."""
    descriptor = open_root(str(root))
    for name in folder.split("/") if folder else ():
        with closing(descriptor):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=descriptor)
            descriptor = open_folder(name, within=descriptor)
    return descriptor


def enter_or_make(name: str, within: int) -> int:
    """Opens a folder directly in an open one, created durably if missing."""
    try:
        return open_folder(name, within=within)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=within)
            os.fsync(within)
        return open_folder(name, within=within)


def make_root(path: str, check: Callable[[], None]) -> None:
    """Creates a folder and all its parents, each durably. Follows links, since the user named them.

    ``check`` is called if something else lies at the path, and raises if it is not a folder.
    """
    parent = os.path.dirname(path)
    for _ in range(ATTEMPTS):
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                check()
                continue  # removed meanwhile
            return
        except FileNotFoundError:
            make_root(parent, check)
            continue
        with closing(open_root(parent)) as descriptor:
            os.fsync(descriptor)
        return


def find_link(root: str, name: str) -> str | None:
    """Returns the path of the first symbolic link from ``root`` to a name, or None.

    Only for the wording of an error that has happened.
    """
    path = root
    for part in name.split("/"):
        path = os.path.join(path, part)
        if os.path.islink(path):
            return path
    return None


def is_irregular(error: OSError) -> bool:
    """Whether a file was refused because it is neither a regular file nor a folder."""
    return error.errno == errno.EINVAL


def is_odd(error: OSError) -> bool:
    """Whether a file was refused because it is not regular: a link, a folder, a pipe."""
    return is_irregular(error) or error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR)


def _irregular(name: str) -> OSError:
    return OSError(errno.EINVAL, "it is no regular file", name)


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
