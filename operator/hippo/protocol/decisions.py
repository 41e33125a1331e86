"""The durable decisions of a study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hippo.protocol.fields import Index, Line, Marks, Seed, Step, Tree, Version
from hippo.protocol.records import FORMAT_VERSION, Record

REOPEN_FORMAT = 2
"""Format version of reopen decisions, so that an older Hippo reports that it is too old."""


class Decision(Record):
    """One durable decision of a study: written before it is acted on, and never derived again.

    - suggest: a new trial;
    - promote: the trial continues up to ``steps``;
    - stop: the trial does not continue;
    - fail: the engine's verdict, after all retries, that the trial cannot reach ``steps``;
    - reopen: an earlier stop or failure of the trial is void, and it continues up to ``steps``.
    """

    format_version: Version = FORMAT_VERSION
    index: Index  # 0, 1, 2, ... within the study
    kind: Literal["suggest", "promote", "stop", "fail", "reopen"]
    trial: Index  # index of the trial within the study: 0, 1, 2, ...
    steps: Step  # target step of the trial; stop: the step where it stays, 0 without results
    hyperparameters: Tree | None = None  # suggest only
    parent: Index | None = None  # suggest only: the trial whose prefix it takes over (PBT)
    marks: Marks = ()  # suggest, promote: earlier steps with a report
    seed: Seed | None = None  # suggest only: seed of a replicate
    request: Index | None = None  # external studies: number of the request that it answers
    reason: Annotated[Line, Field(min_length=1)]

    @model_validator(mode="after")
    def _check_hyperparameters(self) -> Decision:
        if self.kind == "suggest" and self.hyperparameters is None:
            raise ValueError("hyperparameters: a new trial needs them")
        return self


def format_of(kind: str) -> int:
    """Returns the format version of a decision of this kind: the oldest that knows it."""
    return REOPEN_FORMAT if kind == "reopen" else FORMAT_VERSION
