"""The picture of the rooms and the contracts in pyproject.toml are one thing."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from docs.generate.places import ROOT
from tests.unit.docs.pages import read

PAGE = "docs/architecture.md"


def read_contract(beginning: str) -> dict[str, Any]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = document["tool"]["importlinter"]["contracts"]
    (found,) = [item for item in contracts if item["name"].startswith(beginning)]
    return dict(found)


def read_picture(page: str = PAGE) -> list[tuple[set[str], str]]:
    """Floors from the top: the rooms of each, and what stands beside it."""
    match = re.search(r"<!-- layers: .*?-->\n```text\n(.*?)```", read(page), re.DOTALL)
    assert match is not None
    floors = []
    for line in match.group(1).splitlines():
        if line.startswith("│"):
            *cells, beside = line[1:].split("│")
            floors.append(({cell.split()[0] for cell in cells}, beside))
    return floors


def test_floors_are_those_of_the_contract() -> None:
    layers = read_contract("Rooms lie on floors")["layers"]
    asked = [{room.strip().removeprefix("hippo.") for room in floor.split("|")} for floor in layers]
    assert [rooms for rooms, _ in read_picture()] == asked


def test_what_is_pure_is_marked() -> None:
    pure = {
        name.removeprefix("hippo.")
        for name in read_contract("The engine and all")["source_modules"]
    }
    marked = [rooms for rooms, beside in read_picture() if "pure" in beside]
    assert set().union(*marked) == pure


def test_what_workers_may_use_is_marked() -> None:
    contract = read_contract("stage_runner shares")
    forbidden = {name.removeprefix("hippo.") for name in contract["forbidden_modules"]}
    for rooms, beside in read_picture():
        assert ("stage_runner" in beside) == (not rooms & forbidden), rooms


def test_every_line_of_the_picture_is_as_wide() -> None:
    match = re.search(r"<!-- layers: .*?-->\n```text\n(.*?)```", read(PAGE), re.DOTALL)
    assert match is not None
    widths = {max(line.rfind(sign) for sign in "┐┤┘│") for line in match.group(1).splitlines()}
    assert len(widths) == 1


def list_rows() -> list[tuple[str, str]]:
    """Rooms and the modules named for them, from the tables of modules."""
    found = []
    for room, text in re.findall(r"^\| `([\w.]+)` \| (.+) \|$", read(PAGE), re.MULTILINE):
        folder = "hippo.kube." + room if "." not in room and room != "stage_runner" else room
        found.append((folder, text))
    return found


@pytest.mark.parametrize(("room", "text"), list_rows(), ids=lambda value: value[:30])
def test_modules_of_a_room_exist(room: str, text: str) -> None:
    folder = (
        ROOT / ("." if room.startswith("stage_runner") else "operator") / room.replace(".", "/")
    )
    named = [name for name in re.findall(r"`(\w+)`", text) if name != "podTemplate"]
    missing = [
        name
        for name in named
        if not ((folder / name).is_dir() or (folder / f"{name}.py").is_file())
    ]
    assert missing == []


def test_every_room_has_its_row() -> None:
    rooms = {f"hippo.{room}" for floor, _ in read_picture() for room in floor}
    assert rooms <= {room for room, _ in list_rows()}
    kube = {path.name for path in (ROOT / "operator/hippo/kube").iterdir() if path.is_dir()}
    kube.discard("__pycache__")
    assert {f"hippo.kube.{name}" for name in kube} <= {room for room, _ in list_rows()}
