"""Formatters of the operator's log: quoted text forges no line and controls no terminal, and URLs
lose their keys. They format all records, kopf's own as well.
"""

from __future__ import annotations

import logging

from hippo.model.foreign import as_line, as_lines, hide_keys


class GuardedText(logging.Formatter):
    """A line for each message; those of a traceback are indented, whatever it quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as it is called
        return as_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return as_lines(super().format(record)).replace("\n", "\n    ")


class GuardedJson(logging.Formatter):
    """JSON, which escapes control characters by itself; keys in URLs are left out."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return hide_keys(self._inner.format(record))


def guard_handlers(*, as_json: bool, layout: str) -> None:
    """Replace the formatters of the root logger's handlers. ``layout``: format of a text line."""
    for handler in logging.getLogger().handlers:
        inner = handler.formatter or logging.Formatter()
        handler.setFormatter(GuardedJson(inner) if as_json else GuardedText(layout))
