"""What is wrong with what a user wrote: every problem at once, each with the path to it."""

from __future__ import annotations

from collections.abc import Iterable

from hippo.model.bounds import MAX_PROBLEMS
from hippo.model.foreign import quote

MAX_PATH = 300
"""Bytes of the path to a problem."""


class InvalidSpec(ValueError):
    """A specification that cannot be used; the user must act.

    ``errors`` holds (path, message) pairs, such as
    ``("spec.space.lr.choices[2].cosine.steps", "must be at least 1")``. A path may be empty where
    a message is about the whole document. Of very many problems the first are told.
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
        """A single problem."""
        return cls([(path, message)])


class Problems:
    """Collects problems while a document is read, so that all of them can be told at once."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, path: str, message: str) -> None:
        """Raises InvalidSpec with all that was added once there are so many that reading on would
        tell nobody more.
        """
        self.found.append((path, message))
        if len(self.found) >= MAX_PROBLEMS:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raises InvalidSpec with all that was added, in that order."""
        if self.found:
            raise InvalidSpec(self.found)
