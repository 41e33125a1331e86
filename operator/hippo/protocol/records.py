"""Base and common records of the protocol between drivers and workers.

All records are small JSON objects, immutable once written, except controls, of which the newest
version counts. They are the whole protocol between the deciding side (``hippo``) and the training
side (``stage_runner``): a worker needs nothing but its assignment and the store.
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
"""Format version of the records. A reader refuses a greater one with a clear message."""


class Record(BaseModel):
    """Base of all records: frozen, unknown fields forbidden, camelCase in JSON.

    NaN and infinities survive as strings.
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
    """Describes one checkpoint. Written after its data, and the first writer wins."""

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
    """Charges to the studies of a plan, and the reports that they include.

    ``counted`` is the number of reports included per chain. Of other chains, all reports count if
    an earlier run launched them.
    """

    format_version: Version = FORMAT_VERSION
    generation: Index  # generation of the lock under which the run holds the plan
    counted: Annotated[dict[Name, Index], Field(max_length=MAX_CHAINS)] = {}  # by chain
    studies: Annotated[dict[Name, Spent], Field(max_length=MAX_STUDIES)] = {}  # by name
