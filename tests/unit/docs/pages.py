"""The Markdown files of the repository, as far as tests read them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from docs.generate.places import ROOT

_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")


@cache
def list_files() -> frozenset[str]:
    """Files of the repository that git does not ignore; where there is no git, all files."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    named = done.stdout.splitlines()
    if done.returncode != 0:
        named = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    return frozenset(name for name in named if (ROOT / name).is_file())


def list_pages() -> list[str]:
    return sorted(name for name in list_files() if name.endswith(".md"))


@cache
def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """A page without its fenced code."""
    return _FENCE.sub("", read(page))


def list_links(page: str) -> Iterator[str]:
    text = re.sub(r"(`+)[^`].*?\1", "", prose(page))
    for match in _LINK.finditer(text):
        yield match.group(1)


@cache
def list_anchors(page: str) -> frozenset[str]:
    """Anchors of a page's headings, as GitHub names them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?)(?: #+)?$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        count = sum(1 for known in found if known == slug or re.fullmatch(f"{slug}-\\d+", known))
        found.append(f"{slug}-{count}" if count else slug)
    return frozenset(found)


def resolve(page: str, target: str) -> Path:
    return (ROOT / page).parent.joinpath(target).resolve()
