"""Arrays, tensors and bytes as found in a state, before they are laid out."""

from __future__ import annotations

from typing import Any, NamedTuple

from stage_runner.checkpoints.layouts import Form


class Unsavable(Exception):
    """The reason why a value cannot be saved; the caller adds its path."""


class Unplaceable(Unsavable):
    """One of several values, given by its number, cannot be laid out."""

    def __init__(self, part: int, reason: str) -> None:
        super().__init__(reason)
        self.part = part


class Part(NamedTuple):
    """A value with memory, its own or shared. Addresses are in bytes."""

    value: Any
    form: Form  # block and offset not set yet
    strides: tuple[int, ...]
    item_size: int
    device: str
    start: int  # of the first element
    low: int  # begin of its memory; equal to ``high`` if empty
    high: int
    lead: int  # distance of ``low`` from where its memory was aligned
