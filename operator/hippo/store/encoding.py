"""Records to bytes and back: JSON, never pickle, and one rule for versions.

A greater ``formatVersion`` than this Hippo's is never guessed at: NewerFormat goes through to the
user. Anything else that cannot be read is Unreadable, and who reads decides whether that may be
passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from hippo.store.blobs import StoreError
from hippo.store.records import (
    FORMAT_VERSION,
    Decision,
    Manifest,
    Record,
    Report,
    Spent,
    format_of,
)

_LONGEST_LINE = 500  # characters of a reason, which may quote what was found


class NewerFormat(StoreError):
    """Written by a newer Hippo."""

    def __init__(self, what: str, version: int, newest: int = FORMAT_VERSION) -> None:
        super().__init__(
            f"{what} was written by a newer Hippo (format {version}, this one reads up to"
            f" {newest}): upgrade, or use another --store"
        )


class Unreadable(StoreError):
    """Truncated, altered, or of a kind that was never written here."""


class PlanRecord(Record):
    """What a plan is for: it pins the format and the trainer's signature."""

    format_version: int = FORMAT_VERSION
    signature: dict[str, Any]


class _Shape(BaseModel):
    """Of a document that its readers take apart: more may stand in it."""

    model_config = ConfigDict(extra="allow", strict=True, alias_generator=to_camel)


class _Metadata(_Shape):
    name: str


class _Study(_Shape):
    metadata: _Metadata
    spec: dict[str, Any]


class _End(_Shape):
    reason: str
    at: float = Field(allow_inf_nan=False)


class _Status(_Shape):
    wall_seconds: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    state: Literal[None, "Running", "Suspended", "Succeeded", "Failed"] = None
    message: str = ""
    best: int | None = None
    best_step: int | None = None
    best_key: str | None = None
    end: _End | None = None


class _StudyDocument(_Shape):
    study: _Study
    status: _Status | None = None
    uid: str | None = None
    deleted: float | None = Field(None, allow_inf_nan=False)
    before: Spent = Spent()


class StudyRecord(Record):
    format_version: int = FORMAT_VERSION
    document: dict[str, Any]

    @field_validator("document")
    @classmethod
    def _has_its_shape(cls, document: dict[str, Any]) -> dict[str, Any]:
        try:
            _StudyDocument.model_validate(document)
        except ValidationError as error:
            raise ValueError(_first_line(error)) from None
        return document


class LedgerChunk(Record):
    """All reports of some chains that have ended."""

    format_version: int = FORMAT_VERSION
    chains: dict[str, list[Report]]


class _Versioned(Protocol):
    @property
    def format_version(self) -> int: ...


_T = TypeVar("_T", bound=_Versioned)


def encode(record: Record) -> bytes:
    return record.model_dump_json(by_alias=True).encode()


def decode(
    validate: Callable[[bytes], _T], data: bytes, what: str, *, newest: int = FORMAT_VERSION
) -> _T:
    """A record from its bytes. ``what`` names it in errors. Raises NewerFormat, Unreadable."""
    record = _validated(validate, data, what, newest)
    check_version(record.format_version, what, newest=newest)
    return record


def decode_decision(data: bytes, what: str) -> Decision:
    """Some kinds of decisions are of a greater version. Raises NewerFormat, Unreadable."""
    decision = _validated(Decision.model_validate_json, data, what, FORMAT_VERSION)
    check_version(decision.format_version, what, newest=format_of(decision.kind))
    return decision


def _validated(validate: Callable[[bytes], _T], data: bytes, what: str, newest: int) -> _T:
    try:
        return validate(data)
    except ValidationError as error:
        version = _find_version(data)
        if version is not None and version > newest:
            raise NewerFormat(what, version, newest) from None
        raise Unreadable(f"{what} cannot be read: {_first_line(error)}") from None


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    text = f"{path}: {first['msg']}" if path else first["msg"]
    return " ".join(text.split())[:_LONGEST_LINE]


def check_version(version: int, what: str, *, newest: int = FORMAT_VERSION) -> None:
    """Raises NewerFormat, or Unreadable for a version that never was."""
    if version > newest:
        raise NewerFormat(what, version, newest)
    if version < 1:
        raise Unreadable(f"{what} cannot be read: format {version} is unknown")


def encode_manifest(manifest: Manifest) -> bytes:
    """Two lines of JSON: the manifest, and the SHA-256 of that line.

    A flipped digit in a manifest may still be a valid manifest, of another step.
    """
    line = encode(manifest)
    return b'%s\n{"sha256":"%s"}\n' % (line, hashlib.sha256(line).hexdigest().encode())


def decode_manifest(data: bytes, what: str) -> Manifest:
    """Raises NewerFormat, Unreadable."""
    line, _, seal = data.partition(b"\n")
    expected = b'{"sha256":"%s"}\n' % hashlib.sha256(line).hexdigest().encode()
    if seal == expected:
        return decode(Manifest.model_validate_json, line, what)
    if not seal.startswith(b'{"sha256":"'):  # sealed otherwise: perhaps by a newer Hippo
        version = _find_version(line)
        if version is not None and version > FORMAT_VERSION:
            raise NewerFormat(what, version)
    raise Unreadable(f"{what} cannot be read: it is truncated or was altered")


def _find_version(data: bytes) -> int | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    version = document.get("formatVersion") if isinstance(document, dict) else None
    return version if isinstance(version, int) else None
