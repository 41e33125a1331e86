"""Programs that tests need and that are built from source with Go: once per machine, then kept.

They are kept in ``${XDG_CACHE_HOME:-~/.cache}/hippo/built``, one folder for each recipe. A changed
recipe has another folder; a build that fails leaves none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hippo"
BUILD_SECONDS = 2400.0


class Impossible(Exception):
    """This machine cannot do it; the message says why, and what would help, in one line."""


def skip_or_fail(reason: object) -> NoReturn:
    """Skip the test; where a gate relies on it (``CI=true``), fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class GoRecipe:
    """How programs are built; each is named by the last element of its package."""

    name: str
    version: str
    packages: tuple[str, ...]
    minutes: float
    """How long it takes on two cores, roughly."""
    tags: str = ""
    linker_flags: str = "-s -w"
    module: Path | None = None
    """A folder with go.mod and go.sum; without, each package is installed at the version."""
    sources: tuple[str, ...] = ()
    """Files and folders of the module that matter, beside go.mod and go.sum."""

    @property
    def folder(self) -> Path:
        """Holds the programs once they are built."""
        return CACHE / "built" / f"{self.name}-{self._digest()[:12]}"

    @property
    def is_built(self) -> bool:
        return self.folder.is_dir()

    def build(self) -> Path:
        """The folder with the programs. Raises Impossible."""
        if not self.is_built:
            build_once(self.folder, self._build)
        return self.folder

    def _build(self, folder: Path) -> None:
        go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
        if go is None:
            raise Impossible(f"{self.name} cannot be built without Go: install it (1.26 or newer)")
        say(f"building {self.name} {self.version}: about {self.minutes:g} min, once")
        flags = ["-trimpath", "-ldflags", self.linker_flags, "-tags", self.tags]
        if self.module is None:
            command = [go, "install", *flags, *(f"{name}@{self.version}" for name in self.packages)]
        else:
            command = [go, "build", *flags, "-o", f"{folder}/", *self.packages]
        done = subprocess.run(
            command,
            cwd=self.module,
            env={**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
        if done.returncode:
            raise Impossible(f"{self.name} cannot be built: {_last_line(done.stderr)}")

    def _digest(self) -> str:
        recipe = (self.version, self.packages, self.tags, self.linker_flags)
        digest = hashlib.sha256(repr(recipe).encode())
        if self.module is not None:
            names = ("go.mod", "go.sum", *self.sources)
            digest.update(digest_files(self.module, names).encode())
        return digest.hexdigest()


def build_once(folder: Path, build: Callable[[Path], None]) -> None:
    """Let ``build`` fill the folder, unless it is there. Other processes wait, and find it then."""
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            return
        building = folder.with_name(f"{folder.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        began = time.monotonic()
        try:
            build(building)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        say(f"built {folder.name} in {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest_files(root: Path, names: tuple[str, ...]) -> str:
    """Of the contents and paths of files, and of all files in folders, below the root."""
    digest = hashlib.sha256()
    for name in names:
        top = root / name
        files = sorted(top.rglob("*")) if top.is_dir() else [top]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
