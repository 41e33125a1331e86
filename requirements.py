"""Prints what pip is to install, for Makefile and Dockerfile: the project itself, as pip would have
it, can be given no hash.

    python3 requirements.py project torch    what Hippo and its extra ``torch`` need
    python3 requirements.py build            a group of dependencies: what builds Hippo
    python3 requirements.py --pinned pip     entries of constraints.txt, with their hashes

Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="+", metavar="NAME", help="project, an extra, or a group")
    parser.add_argument("--pinned", action="store_true", help="names of packages instead")
    parsed = parser.parse_args()
    known = _list_pinned() if parsed.pinned else _list_parts()
    for name in parsed.names:
        if name not in known:
            parser.error(f"{name} is unknown; known: {', '.join(sorted(known))}")
    lines = [line for name in parsed.names for line in known[name]]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _list_parts() -> dict[str, list[str]]:
    document = tomllib.loads((HERE / "pyproject.toml").read_text())
    project = document["project"]
    return {
        "project": project["dependencies"],
        **project["optional-dependencies"],
        **document["dependency-groups"],
    }


def _list_pinned() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    entry: list[str] = []
    for line in (HERE / "constraints.txt").read_text().splitlines():
        if line and not line.startswith(("#", " ")):
            entry = found.setdefault(line.partition("==")[0], [])
        if not line.startswith("#"):
            entry.append(line)
    return found


if __name__ == "__main__":
    sys.exit(main())
