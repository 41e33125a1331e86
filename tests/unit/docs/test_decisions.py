"""Decisions are told in one form, and each is listed where the architecture is told."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs.pages import list_pages, read

DECISIONS = [page for page in list_pages() if page.startswith("docs/adr/")]
PARTS = ["Context", "Alternatives", "Decision", "Consequences"]


@pytest.mark.parametrize("page", DECISIONS)
def test_a_decision_has_its_parts(page: str) -> None:
    assert re.findall(r"^\*\*(\w+)\.\*\*", read(page), re.MULTILINE) == PARTS
    number = int(page.removeprefix("docs/adr/")[:4])
    assert read(page).startswith(f"# {number}. ")


def test_numbers_have_no_gap() -> None:
    numbers = [int(page.removeprefix("docs/adr/")[:4]) for page in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("page", DECISIONS)
def test_a_decision_is_listed(page: str) -> None:
    assert f"({page.removeprefix('docs/')})" in read("docs/architecture.md")
