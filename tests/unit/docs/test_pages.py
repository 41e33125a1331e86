"""Pages lead somewhere, name what exists, and are current where they are generated."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from docs.generate.lifecycles import MACHINES, list_edges, render_all
from docs.generate.places import ROOT
from hippo.lifecycles import TRANSITIONS
from tests.unit.docs.pages import (
    list_anchors,
    list_files,
    list_links,
    list_pages,
    prose,
    read,
    resolve,
)

PACKAGES = {"hippo": "operator/hippo", "stage_runner": "stage_runner"}
YOURS = {"trainer.py"}
"""Files of readers, which pages name."""


def find_broken_links(page: str) -> list[str]:
    broken = []
    for link in list_links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = resolve(page, target) if target else ROOT / page
        if not path.exists() or not path.is_relative_to(ROOT):
            broken.append(f"{link}: no such file")
        elif anchor and path.suffix != ".md":
            broken.append(f"{link}: an anchor of a file that has none")
        elif anchor and anchor not in list_anchors(str(path.relative_to(ROOT))):
            broken.append(f"{link}: no such heading")
    return broken


@pytest.mark.parametrize("page", list_pages())
def test_links_lead_somewhere(page: str) -> None:
    assert find_broken_links(page) == []


def test_a_broken_link_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    links = ["gone.md", "README.md#gone", "README.md#licence", "Makefile#x", "/etc/hosts", "docs"]
    monkeypatch.setattr("tests.unit.docs.test_pages.list_links", lambda page: links)
    found = [line.partition(":")[0] for line in find_broken_links("CONTRIBUTING.md")]
    assert found == ["gone.md", "README.md#gone", "README.md#licence", "Makefile#x", "/etc/hosts"]


def test_links_in_code_are_not_links(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[a](b.md) `[c](d.md)` [![e](f.svg)](g.md)"
    monkeypatch.setattr("tests.unit.docs.pages.prose", lambda page: text)
    assert list(list_links("README.md"))[:1] == ["b.md"]
    assert "d.md" not in list_links("README.md")


def is_module(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module's text has."""
    package, *rest = name.split(".")
    path = ROOT / PACKAGES[package]
    for position, part in enumerate(rest):
        if (path / part).is_dir():
            path = path / part
            continue
        file = path / f"{part}.py"
        if file.is_file():
            return True
        above = path / "__init__.py" if path.is_dir() else path
        is_last = position == len(rest) - 1
        return is_last and re.search(rf"\b{part}\b", above.read_text()) is not None
    return True


@pytest.mark.parametrize("page", list_pages())
def test_modules_that_pages_name_exist(page: str) -> None:
    named = re.findall(r"`((?:hippo|stage_runner)(?:\.[a-z_]\w*)+)`", prose(page))
    named = [name for name in named if not re.match(r"hippo\.(dev|enabled)\b", name)]
    assert [name for name in named if not is_module(name)] == []


@pytest.mark.parametrize("page", list_pages())
def test_python_files_that_pages_name_exist(page: str) -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", prose(page))) - YOURS
    known = [PurePosixPath("/", name) for name in list_files() if name.endswith(".py")]
    assert [name for name in named if not any(path.match(name) for path in known)] == []


@pytest.mark.parametrize("path", render_all())
def test_generated_pages_are_current(path: str) -> None:
    """If not: python -m docs.generate."""
    assert (ROOT / path).read_text(encoding="utf-8") == render_all()[path]


def test_drawings_hold_every_transition() -> None:
    drawn = sum(len(events) for machine in MACHINES for events in list_edges(machine).values())
    assert drawn == len(TRANSITIONS)
    for machine in MACHINES:
        assert machine.places.keys() == {state.value for state in machine.states}
        assert len(set(machine.places.values())) == len(machine.places)


def test_the_comparison_has_measured_figures_only() -> None:
    measured = read("docs/benchmarks.md").partition("<!-- side_by_side:")[2]
    measured = measured.partition("<!-- end of side_by_side -->")[0]
    known = set(re.findall(r"[\d.]+", re.sub(r"\([^)]*\)", "", measured)))
    section = read("README.md").partition("## Hippo beside")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if re.match(r"\| .*\d", line)]
    figures = {figure for row in rows for figure in re.findall(r"\d[\d.]*", row)}
    assert len(rows) == 8
    assert figures <= known
