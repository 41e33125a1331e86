"""Lists a directory of blobs, folder by folder, without following symbolic links."""

from __future__ import annotations

import contextlib
import os
import stat

from hippo.store import folders
from hippo.store.blobs import BlobInfo, is_name

_MOST_OPEN = 16  # nested folders that are open at once


class Listing:
    """The result of one listing: blobs, and names of symbolic links."""

    def __init__(self, prefix: str, after: str) -> None:
        self._prefix = prefix
        self._after = after
        self.found: list[BlobInfo] = []
        self.links: list[str] = []

    def read(self, folder: int, path: str, levels: int = _MOST_OPEN) -> list[str]:
        """Lists an open folder and those below it.

        Returns the paths of folders too deep to keep all their parents open.
        """
        start = path + "/" if path else ""
        below: list[tuple[str, str]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                name = start + entry.name
                if entry.name.startswith(".") or not is_name(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if f"{name}/".startswith(self._prefix):
                        below.append((entry.name, name))
                elif not name.startswith(self._prefix):
                    continue
                elif entry.is_symlink():
                    self.links.append(name)
                elif name > self._after:
                    self._take(entry, name)
        if not levels:
            return [name for _, name in below]
        pending: list[str] = []
        for last, name in below:
            try:
                descriptor = folders.open_folder(last, within=folder)
            except (FileNotFoundError, NotADirectoryError):
                continue  # deleted or replaced meanwhile
            with folders.closing(descriptor):
                pending += self.read(descriptor, name, levels - 1)
        return pending

    def _take(self, entry: os.DirEntry[str], name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                self.found.append(BlobInfo(name, status.st_size))
