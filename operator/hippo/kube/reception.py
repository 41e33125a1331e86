"""Studies as they come: read, checked, and told at once whether they are accepted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hippo.kube import names
from hippo.kube.api import POD, STUDY, Api, Refused
from hippo.kube.chains import is_for_quota
from hippo.kube.conditions import set_condition
from hippo.kube.driver import Accepted
from hippo.kube.events import Events
from hippo.kube.manifests import build_dry_runs
from hippo.kube.reporting import StudyStatuses
from hippo.kube.settings import Settings
from hippo.kube.templates import check_template
from hippo.model import InvalidSpec, Study, parse_study
from hippo.model.foreign import quote
from hippo.model.study import TrainerSpec

MAX_WISH = 63
"""Bytes of the annotation that tries failed trials again: they stand in the status, too."""


class Reception:
    """What the CRD's schema and rules cannot check, the model and a dry run of a pod do."""

    def __init__(
        self, api: Api, settings: Settings, statuses: StudyStatuses, events: Events
    ) -> None:
        self._api = api
        self._settings = settings
        self._statuses = statuses
        self._events = events
        self._rejected: dict[str, int] = {}  # generation that was told so, by uid
        self._checked: dict[str, TrainerSpec] = {}  # of whom the server would take pods, by uid

    def forget(self, uid: str) -> None:
        """The study is gone."""
        self._rejected.pop(uid, None)
        self._checked.pop(uid, None)

    async def accept(self, document: Mapping[str, Any]) -> Accepted:
        """Raises InvalidSpec, and Refused if the API server would not take its pods."""
        metadata = document["metadata"]
        study = parse_study(
            {
                "apiVersion": document["apiVersion"],
                "kind": document["kind"],
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
                "spec": document.get("spec"),
            }
        )
        if study.spec.trainer.image is None:
            raise InvalidSpec.at(
                "spec.trainer.image", "is missing: name the image that holds the trainer"
            )
        check_template(study.spec.trainer.pod_template)
        uid = metadata["uid"]
        status = document.get("status") or {}
        is_new = uid not in self._checked
        is_at_work = is_new and status.get("phase") not in (None, "Rejected", "Pending")
        if self._checked.get(uid) != study.spec.trainer and not is_at_work:
            await self._try_pods(study)
        self._checked[uid] = study.spec.trainer
        return Accepted(
            study,
            uid,
            int(metadata["generation"]),
            metadata["creationTimestamp"],
            document,
            read_wish(metadata),
        )

    async def _try_pods(self, study: Study) -> None:
        *others, last = build_dry_runs(study, self._settings)
        for body in (*others, last):
            try:
                await self._api.create(POD, study.namespace, body, dry_run=True)
                return
            except Refused as error:
                if is_for_quota(error):
                    return
                if body is last:
                    raise

    async def welcome(self, item: Accepted, plan: str) -> None:
        """A study that is valid says so before anything is done for it. Raises ApiError."""
        self._rejected.pop(item.uid, None)
        status = self._statuses.find(item)
        if status.phase not in (None, "Rejected"):
            return
        status = status.model_copy(
            update={
                "phase": "Pending",
                "message": "",
                "plan": plan,
                "observed_generation": item.generation,
                "conditions": set_condition(
                    status.conditions,
                    names.ACCEPTED,
                    True,
                    reason=names.REASON_VALID,
                    now=time.time(),
                    generation=item.generation,
                ),
            }
        )
        await self._statuses.write(item, status)

    async def reject(
        self, document: Mapping[str, Any], reason: str, message: str, *, is_at_work: bool
    ) -> None:
        """Say what is wrong; a study that is at work already goes on as it was. Raises ApiError."""
        metadata = document["metadata"]
        uid, generation = metadata["uid"], int(metadata["generation"])
        if self._rejected.get(uid) == generation:
            return
        status = self._statuses.find_document(document)
        status.conditions = set_condition(
            status.conditions,
            names.ACCEPTED,
            False,
            reason=reason,
            message=message,
            now=time.time(),
            generation=generation,
        )
        status.observed_generation = generation
        if not is_at_work:
            status.phase, status.message = "Rejected", message
        await self._api.set_status(STUDY, metadata["namespace"], metadata["name"], status)
        self._rejected[uid] = generation
        self._events.tell(document, reason, message, True)


def read_wish(metadata: Mapping[str, Any]) -> str | None:
    """The value of the annotation that tries failed trials again, as statuses repeat it."""
    wish = (metadata.get("annotations") or {}).get(names.ANNOTATION_RETRY)
    return quote(str(wish), MAX_WISH) if wish is not None else None
