"""The durable decisions of a study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hippo.protocol.fields import Index, Line, Marks, Seed, Step, Tree, Version
from hippo.protocol.records import FORMAT_VERSION, Record

REOPEN_FORMAT = 2
"""Of a decision of the kind reopen: an older Hippo does not know it, and says so."""


class Decision(Record):
    """One durable decision of a study: written before it is acted on, and never derived again.

    suggest: a new trial; promote: a trial is to go on, up to ``steps``; stop: a trial is not to go
    on; fail: the engine's own verdict, after all retries: the trial cannot reach ``steps``; reopen:
    the trial's stop or failure before it is void, and it goes on, up to ``steps``.
    """

    format_version: Version = FORMAT_VERSION
    index: Index  # 0, 1, 2, ... within the study
    kind: Literal["suggest", "promote", "stop", "fail", "reopen"]
    trial: Index  # index of the trial within the study; suggest numbers them 0, 1, 2, ...
    steps: Step  # that the trial is to reach (stop: where it stays, 0 if it has no result yet)
    hyperparameters: Tree | None = None  # suggest only
    parent: Index | None = None  # suggest only: the trial whose beginning it takes over (PBT)
    marks: Marks = ()  # suggest, promote: earlier steps with a report on the way
    seed: Seed | None = None  # suggest only: a replicate, trained under this seed
    request: Index | None = None  # external studies: the number of the request that it answers
    reason: Annotated[Line, Field(min_length=1)]

    @model_validator(mode="after")
    def _says_what_to_try(self) -> Decision:
        if self.kind == "suggest" and self.hyperparameters is None:
            raise ValueError("hyperparameters: a new trial needs them")
        return self


def format_of(kind: str) -> int:
    """The version under which a decision of this kind is written: the oldest that knows it."""
    return REOPEN_FORMAT if kind == "reopen" else FORMAT_VERSION
