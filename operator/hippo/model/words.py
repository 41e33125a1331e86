"""Wording of messages: plurals, articles, single-line text, and spelling suggestions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MIN_LIKENESS = 0.7
"""Similarity by difflib below which a name is no misspelling of another."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns ``1 step`` or ``2 steps``; ``plural`` is for irregular nouns."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


_AN = re.compile(r"(?!uni|use|uint|ufunc|eu|one\b)[aeiou]|nd|n-d|lstm|mlp|rnn|sgd", re.IGNORECASE)


def with_article(noun: str) -> str:
    """``a list``, ``an object``, ``an ndarray``."""
    return f"an {noun}" if _AN.match(noun) else f"a {noun}"


_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
"""Characters that Unicode counts as printable but that display nothing."""


def on_one_line(text: str, but: str = "") -> str:
    """Escapes line breaks, control characters and invisible characters, as in ``\\x1b``.

    Characters in ``but`` are left alone.
    """
    if text.isprintable() and not _UNSEEN.search(text):
        return text
    return "".join(
        char if char in but or (char.isprintable() and not _UNSEEN.match(char)) else _spell(char)
        for char in text
    )


def _spell(char: str) -> str:
    return char.encode("unicode_escape").decode()


def bare(name: str) -> str:
    """Strips what people write differently: case, ``_``, ``-``, spaces."""
    return "".join(char for char in name.casefold() if char.isalnum())


def closest(name: object, known: Iterable[str]) -> str | None:
    """Returns the known name of which ``name`` is probably a misspelling, or None."""
    if not isinstance(name, str) or not bare(name):
        return None
    by_bare = {bare(one): one for one in known}
    written = bare(name)[:100]  # the comparison takes quadratic time
    if written in by_bare:
        return by_bare[written]
    found = difflib.get_close_matches(written, by_bare, n=1, cutoff=MIN_LIKENESS)
    if found:
        return by_bare[found[0]]
    begun = [one for one in by_bare if len(written) > 2 and one.startswith(written)]
    return by_bare[begun[0]] if len(begun) == 1 else None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Returns ``; did you mean x?`` to append to a message; "" if no known name is similar."""
    found = closest(name, known)
    return f"; did you mean {found}?" if found is not None and found != name else ""
