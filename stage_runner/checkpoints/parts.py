"""What the walk through a state finds of arrays, tensors and bytes, before it is laid out."""

from __future__ import annotations

from typing import Any, NamedTuple

from stage_runner.checkpoints.layouts import Form


class Unsavable(Exception):
    """Why a value cannot be saved; the caller adds its path."""


class Unplaceable(Unsavable):
    """One of several values cannot be laid out: that of this number."""

    def __init__(self, part: int, reason: str) -> None:
        super().__init__(reason)
        self.part = part


class Part(NamedTuple):
    """A value with memory of its own or shared with others. Addresses are in bytes."""

    value: Any
    form: Form  # its block and offset are not known yet
    strides: tuple[int, ...]
    item_size: int
    device: str
    start: int  # of the first element
    low: int  # the memory that it covers; equal to ``high`` if it is empty
    high: int
    lead: int  # distance of ``low`` from where its memory was aligned
