"""Errors in what a user wrote: all problems at once, each with its path."""

from __future__ import annotations

from collections.abc import Iterable

from hippo.model.bounds import MAX_PROBLEMS
from hippo.model.foreign import quote

MAX_PATH = 300
"""Bytes of the path of a problem."""


class InvalidSpec(ValueError):
    """The specification is invalid and its author must change it.

    ``errors`` holds (path, message) pairs, such as ``("spec.space.lr.choices[2].cosine.steps",
    "must be at least 1")``. The path is empty if the message concerns the whole document. Only the
    first MAX_PROBLEMS errors are kept.
    """

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        errors = list(errors)
        told = errors if len(errors) <= MAX_PROBLEMS else errors[: MAX_PROBLEMS - 1]
        self.errors: tuple[tuple[str, str], ...] = tuple(
            (quote(path, MAX_PATH), quote(message)) for path, message in told
        )
        if len(told) < len(errors):
            self.errors += (("", f"and {len(errors) - len(told)} problems more"),)
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "\n".join(f"{path}: {message}" if path else message for path, message in self.errors)

    @classmethod
    def at(cls, path: str, message: str) -> InvalidSpec:
        """An InvalidSpec with a single problem."""
        return cls([(path, message)])


class Problems:
    """Collects problems while a document is read, so that all are reported at once."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, path: str, message: str) -> None:
        """Adds a problem. Raises InvalidSpec with all problems once there are MAX_PROBLEMS."""
        self.found.append((path, message))
        if len(self.found) >= MAX_PROBLEMS:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raises InvalidSpec with all problems, in the order in which they were added."""
        if self.found:
            raise InvalidSpec(self.found)
