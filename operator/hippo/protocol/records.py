"""The records that drivers and workers exchange through the store.

All of them are small JSON objects, immutable once written (controls excepted: the newest version
stands). They are the whole protocol between the side that decides (``hippo``) and the side that
trains (``stage_runner``): a worker needs nothing but its assignment and the store.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)
from pydantic.alias_generators import to_camel

from hippo.protocol.fields import (
    MAX_CHAINS,
    MAX_STUDIES,
    Charge,
    Count,
    Fingerprint,
    Index,
    Label,
    Name,
    Step,
    Version,
)

FORMAT_VERSION = 1
"""Version of everything below. A reader refuses a greater one with a clear line."""


class Record(BaseModel):
    """Frozen, strict about unknown fields, camelCase in JSON; NaN and infinities survive as
    strings.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        ser_json_inf_nan="strings",
    )


class Manifest(Record):
    """Describes one checkpoint. Written last and first writer wins: no manifest, no checkpoint."""

    format_version: Version = FORMAT_VERSION
    key: Name
    step: Step
    size: Count  # bytes of the data object
    sha256: Label  # of the data object
    state_digest: Label  # of the state itself, independent of its encoding
    fingerprint: Fingerprint  # software and hardware that produced it
    chain: Name


class Spent(Record):
    """Charges to a study."""

    worker_seconds: Charge = 0.0
    steps_trained: Charge = 0.0


class Spending(Record):
    """What the studies of a plan have been charged, and the reports that this takes in.

    Of chains that stand here so many reports count; of others all, if an earlier run launched them.
    """

    format_version: Version = FORMAT_VERSION
    generation: Index  # of the lock, under which the run goes on
    counted: Annotated[dict[Name, Index], Field(max_length=MAX_CHAINS)] = {}  # by chain
    studies: Annotated[dict[Name, Spent], Field(max_length=MAX_STUDIES)] = {}  # by name
