"""Statuses are written over exactly those that their writer has seen or written last."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hippo.kube.client import Api, Conflict, Refused, StatusPrecondition
from hippo.kube.resources import Resource, StatusModel

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the API server holds of an object's status."""

    precondition: StatusPrecondition
    version: int  # of the object, as far as it can be compared

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> _Known:
        return cls(StatusPrecondition.read(document), _version(document))


class StatusPreconditions(Generic[K]):
    """The statuses of objects of one kind, by any key, as they were seen or written last. An
    operator that was overtaken ends with a Conflict.
    """

    def __init__(self, api: Api, resource: Resource, kind: str) -> None:
        """``kind``: what people call such an object."""
        self._api = api
        self._resource = resource
        self._kind = kind
        self._known: dict[K, _Known] = {}

    def saw(self, key: K, document: Mapping[str, Any]) -> bool:
        """Take over the status of a document. Returns False for one from before the last write
        here, which tells nothing.
        """
        if self.is_outdated(key, document):
            return False
        self._known[key] = _Known.read(document)
        return True

    def is_outdated(self, key: K, document: Mapping[str, Any]) -> bool:
        """Whether a document is from before the last write here."""
        known = self._known.get(key)
        return known is not None and _version(document) < known.version

    def forget(self, key: K) -> None:
        self._known.pop(key, None)

    async def write(self, key: K, namespace: str, name: str, status: StatusModel) -> None:
        """Write over the status that is known, or over any if none is; one that the API server does
        not take is given up. Raises ApiError: NotFound; Conflict if the object has another phase.
        """
        known = self._known.get(key)
        precondition = known.precondition if known is not None else None
        try:
            written = await self._api.set_status(
                self._resource, namespace, name, status, precondition=precondition
            )
        except Conflict:
            self.forget(key)  # the cluster knows better
            raise
        except Refused as error:  # of an object that a later CRD would not take
            log.warning("the status of %s %s cannot be written: %s", self._kind, name, error)
        else:
            self._known[key] = _Known.read(written)


def _version(document: Mapping[str, Any]) -> int:
    """The resourceVersion, which API servers count up; 0 of one that does not."""
    version = str(document["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0
