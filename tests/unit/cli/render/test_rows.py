"""Rows in any width: nothing is cut, and no line is wider than the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from hippo.cli.render.rows import Column, Listing

COLUMNS = [
    Column("trial"),
    Column("steps"),
    Column("loss", is_number=True),
    Column("hyper-parameters", is_folded=True),
    Column("why", is_folded=True),
]


def draw(listing: Listing, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(listing)
    return stream.getvalue()


def squeeze(text: str) -> str:
    """Without what layout adds."""
    return "".join(text.split()).replace("\N{NO-BREAK SPACE}", "")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_nothing_is_lost_in_any_width(width: int) -> None:
    listing = Listing(COLUMNS, "a title of a study")
    rows = [
        ("a-rather-long-name-of-a-trial-17", "24", "2.7613e-10", "lr=0.1  m=0.9@0|0.5@16", "so"),
        ("x", "3", "-", "lr=warmup(from 0, steps 4, to 0.1, then 0.5)", "of all " * 9),
    ]
    for row in rows:
        listing.add(*row)
    text = draw(listing, width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "…" not in text
    if width in (120, 200):  # a table: columns are read line by line
        assert all(cell in text for row in rows for cell in row[:3])
    else:
        assert all(squeeze(cell) in squeeze(text) for row in rows for cell in row)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(min_size=1, max_size=50)] * 5), min_size=1, max_size=4),
    st.integers(20, 150),
)
def test_no_text_breaks_the_layout(rows: list[tuple[str, ...]], width: int) -> None:
    listing = Listing(COLUMNS)
    for row in rows:
        listing.add(*row)
    assert all(cell_len(line) <= width for line in draw(listing, width).split("\n"))


def test_numbers_are_aligned_and_long_texts_lie_below_where_a_table_is_too_wide() -> None:
    listing = Listing(COLUMNS)
    listing.add("a-1", "24", "0.5", "lr=0.1  momentum=0.9  weight_decay=0.1", "point 1 of the grid")
    listing.add("a-2", "24", "12.5", "lr=0.2", "point 2 of the grid")
    assert [line.rstrip() for line in draw(listing, 60).splitlines()] == [
        "trial  steps  loss",
        "a-1    24      0.5",
        "  hyper-parameters: lr=0.1  momentum=0.9  weight_decay=0.1",
        "  why: point 1 of the grid",
        "a-2    24     12.5",
        "  hyper-parameters: lr=0.2",
        "  why: point 2 of the grid",
    ]
    assert draw(listing, 100).splitlines()[0].split() == [column.name for column in COLUMNS]
