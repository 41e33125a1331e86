"""Trials of users that no study takes: whoever made one is told why nothing happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hippo.kube.client import Api, Conflict, NotFound, Refused, StatusPrecondition
from hippo.kube.resources import TRIAL
from hippo.kube.status.models import TrialStatus
from hippo.model import External, Study

FindStudy = Callable[[str, str], tuple[Study, bool] | None]
"""By namespace and name: an accepted study, and whether it has ended."""


class OrphanTrials:
    """Says so in their statuses, once."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._told: dict[str, str] = {}  # by uid of the Trial

    async def tell(
        self, trials: Mapping[str, Mapping[str, Mapping[str, Any]]], find: FindStudy
    ) -> None:
        """``trials``: all that users made, by namespace and name. Raises ApiError."""
        there: set[str] = set()
        for namespace, objects in list(trials.items()):
            for name, document in list(objects.items()):
                uid, study = document["metadata"]["uid"], str(document["spec"].get("study", ""))
                there.add(uid)
                seen = StatusPrecondition.read(document)
                reason = _explain(study, find(namespace, study), seen.phase)
                if reason is None or self._told.get(uid) == reason:
                    continue
                status = TrialStatus(phase="Rejected", reason=reason)
                try:
                    await self._api.set_status(TRIAL, namespace, name, status, precondition=seen)
                except Conflict:
                    continue  # somebody takes it
                except (NotFound, Refused):
                    pass
                self._told[uid] = reason
        for uid in self._told.keys() - there:
            del self._told[uid]


def _explain(name: str, found: tuple[Study, bool] | None, phase: Any) -> str | None:
    if found is None:
        return f"there is no study {name} in this namespace that was accepted: make it"
    study, has_ended = found
    if not isinstance(study.spec.algorithm, External):
        return (
            f"study {name} makes its own trials: only studies of the algorithm external take those"
            " of users"
        )
    return f"study {name} has ended" if has_ended and phase is None else None
