"""A Study of the cluster whose spec is valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hippo.model import Study


@dataclass(frozen=True, slots=True)
class Accepted:
    """A study of the cluster that is valid."""

    study: Study
    uid: str
    generation: int
    created: str  # RFC 3339
    document: Mapping[str, Any]  # its object
    retry: str | None = None  # the value of the annotation that tries failed trials again
