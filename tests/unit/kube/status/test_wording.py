"""On a cluster nobody is told to do what only a command line can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hippo.kube.status.conditions import set_condition
from hippo.kube.status.wording import for_cluster

SOURCES = Path(__file__).parents[4] / "operator" / "hippo" / "store"
LITERALS = re.compile(r'f?"((?:[^"\\\n]|\\.)*)"(?:\s*\n?\s*f?"((?:[^"\\\n]|\\.)*)")?')


def messages() -> list[str]:
    """Texts of the store that give advice for the command line."""
    found = []
    for file in sorted(SOURCES.rglob("*.py")):
        for first, second in LITERALS.findall(file.read_text()):
            text = first + second
            if "another --store" in text or "another store" in text:
                found.append(text)
    return found


def test_there_are_such_messages() -> None:
    assert len(messages()) > 10


@pytest.mark.parametrize("text", messages())
def test_no_advice_of_another_store_is_left(text: str) -> None:
    said = for_cluster(text)
    assert "--store" not in said
    assert "another store" not in said
    assert not said.rstrip().endswith((":", ",", " or"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "cannot write s3://b/x: no space left (Full): free some, or use another --store; what"
            " is stored is kept",
            "cannot write s3://b/x: no space left (Full): free some; what is stored is kept",
        ),
        (
            "the store was written by a newer Hippo (format 9): upgrade, or use another --store",
            "the store was written by a newer Hippo (format 9): run that version of the operator",
        ),
        (
            "plan a/b is in use: wait for it, stop it, or use another store",
            "plan a/b is in use: wait for it, stop it, or give each operator a prefix of its own",
        ),
        (
            "http://s3 cannot be reached: check AWS_ENDPOINT_URL and that it runs",
            "http://s3 cannot be reached: check the chart's store.endpoint and that it runs",
        ),
        ("ValueError: told to fail (trainer.py:13)", "ValueError: told to fail (trainer.py:13)"),
    ],
)
def test_what_is_said_instead(text: str, said: str) -> None:
    assert for_cluster(text) == said
    (condition,) = set_condition([], "Progressing", False, reason="R", message=text, now=0.0)
    assert condition.message == said
