"""The statuses of Studies as they were written last, and the only place that writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hippo.kube.client import Api, Conflict, NotFound
from hippo.kube.resources import STUDY, dump
from hippo.kube.status.models import StudyStatus
from hippo.kube.status.preconditions import StatusPreconditions


@dataclass(eq=False)
class StudyStatuses:
    """The statuses of studies, valid or not, as they were written last."""

    api: Api
    _known: dict[str, StudyStatus] = field(init=False, default_factory=dict)  # by uid
    _preconditions: StatusPreconditions[str] = field(init=False)  # by uid

    def __post_init__(self) -> None:
        self._preconditions = StatusPreconditions(self.api, STUDY, "study")

    def find(self, document: Mapping[str, Any]) -> StudyStatus:
        """The status of this Study, which nobody may change in place."""
        uid = document["metadata"]["uid"]
        if uid not in self._known:
            self.saw(document)
        return self._known[uid]

    async def write(self, document: Mapping[str, Any], status: StudyStatus) -> bool:
        """Whether there was anything to write. Raises ApiError; Conflict if the study has another
        phase than is known here: an operator that was overtaken ends here.
        """
        metadata, known = document["metadata"], self.find(document)
        if status == known or dump(status) == dump(known):  # bounded, as they are written
            return False
        uid, place = metadata["uid"], (metadata["namespace"], metadata["name"])
        try:
            await self._preconditions.write(uid, *place, status)
        except NotFound:
            return False
        except Conflict:
            self.forget(uid)
            raise
        self._known[uid] = status
        return True

    def saw(self, document: Mapping[str, Any]) -> None:
        """Take over the cluster's status, while nobody writes here: another operator may. A
        document from before the last write here tells nothing.
        """
        uid = document["metadata"]["uid"]
        if self._preconditions.saw(uid, document):
            self._known[uid] = read_study_status(document)

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)
        self._preconditions.forget(uid)


def read_study_status(document: Mapping[str, Any]) -> StudyStatus:
    """The status that a Study carries; one that cannot be read is written anew."""
    try:
        return StudyStatus.model_validate(document.get("status") or {})
    except ValidationError:
        return StudyStatus()
