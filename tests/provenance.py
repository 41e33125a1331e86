"""On which code a long campaign has run: parts that were run on other code do not count."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SOURCES = ("*.py", "*.c", "*.yaml", "*.toml")


def hash_code(*places: str) -> str:
    """16 hex digits over names and contents of the sources in these folders and files."""
    found: set[Path] = set()
    for place in places:
        path = ROOT / place
        found |= {path} if path.is_file() else {f for s in _SOURCES for f in path.rglob(s)}
    total = hashlib.sha256()
    for file in sorted(found):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(ROOT).as_posix()} {content}\n".encode())
    return total.hexdigest()[:16]


def describe_commit() -> str:
    """The commit that is checked out, with a ``+`` if files have changed since; or unknown."""
    try:
        short = _ask_git("rev-parse", "--short", "HEAD").strip()
        return short + ("+" if _ask_git("status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _ask_git(*words: str) -> str:
    asked = ["git", "-C", str(ROOT), *words]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout
