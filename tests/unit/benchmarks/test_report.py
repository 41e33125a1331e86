"""Tables find their places in the document."""

from __future__ import annotations

import pytest

from benchmarks.report import DOCUMENT, MODULES, describe, insert


def test_what_was_measured_replaces_what_stood_there() -> None:
    text = "a\n<!-- x: written by make bench -->\nold\n<!-- end of x -->\nz\n"
    once = insert(text, "x", r"| \1 |")
    assert once == ("a\n<!-- x: written by make bench -->\n\n| \\1 |\n\n<!-- end of x -->\nz\n")
    assert insert(once, "x", r"| \1 |") == once


def test_a_document_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="has no place for y"):
        insert("a", "y", "b")


@pytest.mark.parametrize("name", MODULES)
def test_the_document_has_a_place_for_each(name: str) -> None:
    assert insert(DOCUMENT.read_text(), name, "new")


def test_command_and_machine_in_a_line() -> None:
    document = {"command": "python -m x", "machine": {"cores": 2, "load": [1.5, 1.0]}}
    assert describe(document) == "`python -m x`. cores 2, load 1.5/1.0"
    assert describe({}) == ""
