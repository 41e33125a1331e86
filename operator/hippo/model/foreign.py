"""Makes untrusted text safe to show: from trainers, records, file names, servers, and URLs.

The result can neither control a terminal nor forge log lines. Secrets in URLs are hidden.
"""

from __future__ import annotations

import re

from hippo.model.words import on_one_line

MAX_METRICS = 1000
"""Metrics that ``evaluate`` may return at once. Reports of older runners may hold more
(``hippo.store.bounds``); statuses bound what they show of them.
"""
MAX_METRIC_NAME = 256
"""Characters of the name of a metric."""
MAX_LINE = 2000
"""Bytes of a message in a record."""

_ABSURD = 8  # multiple of the kept length above which text is cut before it is cleaned

_USER = r"[^\s/?#\"<>]{0,1000}@"
_USER_AND_KEY = r"[^\s/@:\"<>]{1,200}:(?!\d+/)[^\s@\"<>]{0,1000}@"  # a key may hold slashes
_KEYS = re.compile(rf"(?<=:)(//?)(?:{_USER}|{_USER_AND_KEY})")
_QUERY = re.compile(r"(://?[^\s?#\"<>]{0,1000}\?)[^\s\"<>]*[^\s\"<>:;,.)\]']")
_SIGNED = re.compile(r"\b(x-amz-[a-z-]{1,40}=)[^\s&\"<>]+", re.IGNORECASE)


def hide_keys(text: str) -> str:
    """Replaces what may be a secret in the text's URLs: user and password, and the whole query."""
    if ":/" in text:
        text = _QUERY.sub(r"\1...", _KEYS.sub(r"\1...@", text))
    return _SIGNED.sub(r"\1...", text) if "=" in text else text


def as_line(text: str) -> str:
    """Returns the text on one line, without control or invisible characters and secrets."""
    return hide_keys(on_one_line(text))


def as_lines(text: str) -> str:
    """Like ``as_line`` for text of several lines, such as a traceback."""
    return "\n".join(hide_keys(on_one_line(line, but="\t")) for line in text.split("\n"))


def clip(text: str, most: int) -> str:
    """Returns at most ``most`` bytes of UTF-8. Cuts out the middle, because remedies come last."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= most:
        return text
    gap = f" ... ({len(data)} bytes) ... "
    kept = most - len(gap)
    if kept < 2 * len(gap):
        return _decode(data[:most])
    tail = kept // 3
    return f"{_decode(data[: kept - tail])}{gap}{_decode(data[-tail:])}"


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "ignore")


def quote(text: str, most: int = MAX_LINE) -> str:
    """Returns the text on one line of at most ``most`` bytes, harmless and without secrets.

    Huge texts are cut first, so the time does not depend on their length.
    """
    if len(text) > _ABSURD * most:
        text = _leave_out_middle(text, _ABSURD * most // 2)
    return clip(as_line(text), most)


def _leave_out_middle(text: str, most: int) -> str:
    """Cuts at word boundaries, because half a URL might hide an unrecognised secret."""
    head, _, _ = text[:most].rpartition(" ")
    _, _, tail = text[-most:].partition(" ")
    return f"{head} ... ({len(text)} characters) ... {tail}"
