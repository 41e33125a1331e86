"""The statuses of Studies as they were written last, and the only place that writes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hippo.kube.client import Api, Conflict, NotFound, Refused, StatusPrecondition
from hippo.kube.resources import STUDY
from hippo.kube.status.models import StudyStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """A status as it was written last, and what the API server holds of it."""

    status: StudyStatus
    precondition: StatusPrecondition
    version: int  # of the object, as far as it can be compared

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> _Known:
        precondition = StatusPrecondition.read(document)
        return cls(read_study_status(document), precondition, _version(document))


@dataclass(eq=False)
class StudyStatuses:
    """The statuses of studies, valid or not, as they were written last."""

    api: Api
    _known: dict[str, _Known] = field(default_factory=dict)  # by uid

    def find(self, document: Mapping[str, Any]) -> StudyStatus:
        """The status of this Study, which nobody may change in place."""
        return self._find(document).status

    def _find(self, document: Mapping[str, Any]) -> _Known:
        uid = document["metadata"]["uid"]
        if uid not in self._known:
            self._known[uid] = _Known.read(document)
        return self._known[uid]

    async def write(self, document: Mapping[str, Any], status: StudyStatus) -> bool:
        """Whether there was anything to write. Raises ApiError; Conflict if the study has another
        phase than is known here: an operator that was overtaken ends here.
        """
        known, metadata = self._find(document), document["metadata"]
        if status == known.status:
            return False
        name, precondition = metadata["name"], StatusPrecondition(True, status.phase)
        version = known.version
        try:
            written = await self.api.set_status(
                STUDY, metadata["namespace"], name, status, precondition=known.precondition
            )
        except NotFound:
            return False
        except Conflict:
            self.forget(metadata["uid"])  # the cluster knows better
            raise
        except Refused as error:  # of an object that a later CRD would not take
            log.warning("the status of study %s cannot be written: %s", name, error)
            precondition = known.precondition
        else:
            version = _version(written)
        self._known[metadata["uid"]] = _Known(status, precondition, version)
        return True

    def saw(self, document: Mapping[str, Any]) -> None:
        """Take over the cluster's status, while nobody writes here: another operator may. A
        document from before the last write here tells nothing.
        """
        found, known = _Known.read(document), self._known.get(document["metadata"]["uid"])
        if known is None or known.version <= found.version:
            self._known[document["metadata"]["uid"]] = found

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)


def _version(document: Mapping[str, Any]) -> int:
    """The resourceVersion, which API servers count up; 0 of one that does not."""
    version = str(document["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdecimal() else 0


def read_study_status(document: Mapping[str, Any]) -> StudyStatus:
    """The status that a Study carries; one that cannot be read is written anew."""
    try:
        return StudyStatus.model_validate(document.get("status") or {})
    except ValidationError:
        return StudyStatus()
