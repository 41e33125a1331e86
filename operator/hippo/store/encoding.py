"""Encodes and decodes records: JSON, never pickle, with one rule for versions.

A ``formatVersion`` greater than this Hippo's is never interpreted: NewerFormat reaches the user.
Any other problem is Unreadable, and the reader decides whether to skip the record.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from hippo.protocol.decisions import Decision, format_of
from hippo.protocol.fields import (
    MAX_CHAINS,
    MAX_MARKS,
    Horizon,
    Index,
    Label,
    Moment,
    Name,
    Seconds,
    Step,
    Text,
    Tree,
    Version,
)
from hippo.protocol.records import FORMAT_VERSION, Manifest, Record, Spent
from hippo.protocol.reports import Report
from hippo.store.blobs import Blobs, StoreError, Unreadable
from hippo.store.bounds import MAX_BYTES, Kind, check_record

_LONGEST_LINE = 500  # characters of a reason, which may quote the record


class NewerFormat(StoreError):
    """A record was written by a newer Hippo."""

    def __init__(self, what: str, version: int, newest: int = FORMAT_VERSION) -> None:
        super().__init__(
            f"{what} was written by a newer Hippo (format {version}, this one reads up to"
            f" {newest}): upgrade, or use another --store"
        )


class PlanRecord(Record):
    """A plan's identity: its format and the trainer's signature."""

    format_version: Version = FORMAT_VERSION
    signature: Tree


class _Shape(BaseModel):
    """A document that readers take apart; unknown fields are allowed."""

    model_config = ConfigDict(extra="allow", strict=True, alias_generator=to_camel)


class _Metadata(_Shape):
    name: Name


class _Checkpoints(_Shape):
    retain: Label = "best"


class _Spec(_Shape):
    steps: Horizon
    checkpoints: _Checkpoints = _Checkpoints()


class _Study(_Shape):
    metadata: _Metadata
    spec: _Spec


class _End(_Shape):
    reason: Label
    at: Moment


class _Status(_Shape):
    updated: Moment = 0.0
    wall_seconds: Seconds = 0.0
    state: Literal[None, "Running", "Suspended", "Succeeded", "Failed"] = None
    message: Text = ""
    best: Index | None = None
    best_step: Step | None = None
    best_key: Name | None = None
    end: _End | None = None


class StudyShape(_Shape):
    """The fields of a study's document that readers rely on."""

    study: _Study
    status: _Status | None = None
    uid: Label | None = None
    deleted: Moment | None = None
    before: Spent = Spent()
    retried: Label | None = None


class StudyRecord(Record):
    format_version: Version = FORMAT_VERSION
    document: Tree

    @field_validator("document")
    @classmethod
    def _check_shape(cls, document: dict[str, Any]) -> dict[str, Any]:
        try:
            StudyShape.model_validate(document)
        except ValidationError as error:
            raise ValueError(_first_line(error)) from None
        return document


class LedgerChunk(Record):
    """All reports of some chains that have ended."""

    format_version: Version = FORMAT_VERSION
    chains: Annotated[
        dict[Name, Annotated[list[Report], Field(min_length=1, max_length=MAX_MARKS)]],
        Field(max_length=MAX_CHAINS),
    ]

    @model_validator(mode="after")
    def _check_chains(self) -> LedgerChunk:
        for name, reports in self.chains.items():
            if any(report.chain != name for report in reports):
                raise ValueError(f"chains.{name}: holds a report of another chain")
        return self


class _Formats(BaseModel):
    """The versions within a record; nothing else of it is parsed into objects."""

    model_config = ConfigDict(alias_generator=to_camel)

    format_version: Any = None
    chains: Any = None  # of the ledger, whose reports have their own versions


class _Versioned(Protocol):
    @property
    def format_version(self) -> int: ...


_T = TypeVar("_T", bound=_Versioned)


def encode(record: Record, kind: Kind) -> bytes:
    """Returns the bytes of a record. Raises StoreError if they could not be read again."""
    data = record.model_dump_json(by_alias=True).encode()
    try:
        check_record(f"a {kind}", data, kind)
    except Unreadable as error:
        raise StoreError(str(error).replace("cannot be read", "cannot be stored")) from None
    return data


def fetch(blobs: Blobs, name: str, kind: Kind) -> bytes:
    """Returns the bytes of a record.

    Raises MissingBlob, or Unreadable if it has too many bytes or values.
    """
    data = blobs.get(name, at_most=MAX_BYTES[kind])
    check_record(name, data, kind)
    return data


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns any error inside into Unreadable, in one line; StoreError and MemoryError pass."""
    try:
        yield
    except (StoreError, MemoryError):
        raise
    except Exception as error:
        raise Unreadable(f"{what} cannot be read: {_first_line(error)}") from error


def decode(
    validate: Callable[[bytes], _T], data: bytes, what: str, *, newest: int = FORMAT_VERSION
) -> _T:
    """Decodes a record. ``what`` names it in errors. Raises NewerFormat, Unreadable."""
    record = _validated(validate, data, what, newest)
    check_version(record.format_version, what, newest=newest)
    return record


def decode_decision(data: bytes, what: str) -> Decision:
    """Decodes a decision; some kinds have a greater version. Raises NewerFormat, Unreadable."""
    decision = _validated(Decision.model_validate_json, data, what, FORMAT_VERSION)
    check_version(decision.format_version, what, newest=format_of(decision.kind))
    return decision


def _validated(validate: Callable[[bytes], _T], data: bytes, what: str, newest: int) -> _T:
    try:
        with reading(what):
            return validate(data)
    except Unreadable:
        version = _find_version(data)
        if version is not None and version > newest:
            raise NewerFormat(what, version, newest) from None
        raise


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        text = f"{path}: {message}" if path else message
    elif isinstance(error, ValueError) and str(error):  # worded for people, as InvalidSpec is
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:_LONGEST_LINE]


def check_version(version: int, what: str, *, newest: int = FORMAT_VERSION) -> None:
    """Raises NewerFormat, or Unreadable for a version that never existed."""
    if version > newest:
        raise NewerFormat(what, version, newest)
    if version < 1:
        raise Unreadable(f"{what} cannot be read: format {version} is unknown")


def check_format(name: str, data: bytes) -> None:
    """Raises NewerFormat if a newer Hippo wrote the record, of any kind."""
    version = _find_version(data)
    if version is not None and version > FORMAT_VERSION:
        raise NewerFormat(name, version)


def encode_manifest(manifest: Manifest) -> bytes:
    """Encodes a manifest as two lines of JSON: the manifest, and the SHA-256 of that line.

    A manifest with a flipped digit may still be valid, but for another step.
    """
    line = encode(manifest, Kind.MANIFEST)
    return b'%s\n{"sha256":"%s"}\n' % (line, hashlib.sha256(line).hexdigest().encode())


def decode_manifest(data: bytes, what: str) -> Manifest:
    """Decodes a manifest. Raises NewerFormat, Unreadable."""
    line, _, seal = data.partition(b"\n")
    expected = b'{"sha256":"%s"}\n' % hashlib.sha256(line).hexdigest().encode()
    if seal == expected:
        return decode(Manifest.model_validate_json, line, what)
    if not seal.startswith(b'{"sha256":"'):  # another kind of seal, perhaps of a newer Hippo
        version = _find_version(line)
        if version is not None and version > FORMAT_VERSION:
            raise NewerFormat(what, version)
    raise Unreadable(f"{what} cannot be read: it is truncated or was altered")


def _find_version(data: bytes) -> int | None:
    try:
        document = _Formats.model_validate_json(data)
    except ValidationError:
        return None
    chains = document.chains
    folded = chains.values() if isinstance(chains, dict) else ()
    reports = [report for told in folded if isinstance(told, list) for report in told]
    found = [report.get("formatVersion") for report in reports if isinstance(report, dict)]
    versions = [v for v in (document.format_version, *found) if isinstance(v, int)]
    return max(versions, default=None)
