"""A digest of the Python sources beside a study: an edited trainer must not reuse old results."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist"}


def digest_sources(folder: Path) -> str:
    """Return the SHA-256 over names and contents of all ``*.py`` files below ``folder``.

    Hidden files and folders (such as an editor's locks) and virtual environments are left out: they
    are not part of the trainer. Raises OSError for unreadable files, without which the digest
    would be another trainer's.
    """
    digest = hashlib.sha256()
    for path in sorted(_python_files(folder)):
        name = os.fsencode(path.relative_to(folder).as_posix())
        content = path.read_bytes()
        digest.update(b"%d %s %d\n" % (len(name), name, len(content)))
        digest.update(content)
    return digest.hexdigest()


def _python_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for here, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not (Path(here) / name / "pyvenv.cfg").exists()
        ]
        found.extend(
            path
            for path in (Path(here) / name for name in files)
            if path.suffix == ".py" and not path.name.startswith(".") and path.is_file()
        )
    return found


def _raise(error: OSError) -> None:
    """Raise the error of a folder that cannot be listed, such as a failed device; not if the folder
    is missing or forbidden, since a trainer cannot import from it either.
    """
    if not isinstance(error, (FileNotFoundError, PermissionError)):
        raise error
