"""Modules stay small enough to be read in one go."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_LINES = 400


def test_no_module_is_longer_than_it_may() -> None:
    modules = [f for top in ("operator", "stage_runner") for f in (ROOT / top).rglob("*.py")]
    assert len(modules) > 300
    lines = {f.relative_to(ROOT).as_posix(): len(f.read_text().splitlines()) for f in modules}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
