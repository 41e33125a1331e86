"""Lists that make up for what watches miss: all Studies and all Trials of users, now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from hippo.kube.client import Api, ApiError
from hippo.kube.controller.orphan_trials import OrphanTrials
from hippo.kube.controller.user_trial_cache import UserTrialCache
from hippo.kube.observability.metrics import Metrics
from hippo.kube.resources import STUDY
from hippo.kube.settings import Settings
from hippo.model import Study

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
"""Between two attempts to list Studies, until the first that succeeds."""
MAX_SILENCE_SECONDS = 120.0
"""Liveness fails after this many seconds without an answer of the API server."""


class StudyCache(Protocol):
    """Takes in what lists tell of Studies."""

    def begin_listing(self) -> set[str]:
        """Uids of all studies that are known before the list is read."""

    def end_listing(self, known: Collection[str], there: Collection[str]) -> None:
        """Forget studies that were ``known`` before, and are not ``there``; both by uid."""

    async def study_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A Study as it is now. Raises ApiError."""

    def find_study(self, namespace: str, name: str) -> tuple[Study, bool] | None:
        """An accepted study, and whether it has ended."""


class Resync:
    """Made in the event loop that it runs in. ``clock`` counts seconds."""

    def __init__(
        self,
        api: Api,
        settings: Settings,
        metrics: Metrics,
        studies: StudyCache,
        trials: UserTrialCache,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._settings = settings
        self._metrics = metrics
        self._studies = studies
        self._trials = trials
        self._orphan_trials = OrphanTrials(api)
        self._clock = clock
        self._looked = clock()  # at all Studies, with success
        self._has_begun = asyncio.Event()  # studies were listed
        self.awaited: dict[str, asyncio.Event] = {}
        """By namespace: set once all its studies that there were at the start are known."""

    async def wait_for_start(self, namespace: str) -> None:
        """Until all studies of the namespace are known that there were at the start."""
        await self._has_begun.wait()
        if (begun := self.awaited.get(namespace)) is not None:
            await begun.wait()

    async def run(self) -> None:
        """Loop forever: take in all Studies, and find deletions that no watch has reported."""
        while True:
            try:
                await self.look_again()
            except ApiError as error:
                log.warning("Studies cannot be looked at: %s", error)
            has_begun = self._has_begun.is_set()
            await asyncio.sleep(self._settings.resync if has_begun else FIRST_PAUSE_SECONDS)

    async def look_again(self) -> None:
        """Take in all Studies that there are. Raises ApiError if they cannot be listed."""
        known = self._studies.begin_listing()
        found = await self.list_studies()
        self._looked = self._clock()
        self._metrics.note_idle()
        places = {(study["metadata"]["namespace"], study["metadata"]["name"]) for study in found}
        self._metrics.keep_studies(places)
        self._studies.end_listing(known, {study["metadata"]["uid"] for study in found})
        by_namespace: dict[str, list[dict[str, Any]]] = {}
        for study in found:
            by_namespace.setdefault(study["metadata"]["namespace"], []).append(study)
        if not self._has_begun.is_set():
            self.awaited = {namespace: asyncio.Event() for namespace in by_namespace}
            self._has_begun.set()
        await asyncio.gather(*(self._take_in(*entry) for entry in by_namespace.items()))
        await self._trials.drop_deleted()
        await self._orphan_trials.tell(self._trials.by_namespace, self._studies.find_study)

    async def _take_in(self, namespace: str, studies: list[dict[str, Any]]) -> None:
        """Take in listed studies of one namespace, which delays no other namespace."""
        for study in studies:
            self._looked = self._clock()
            try:
                await self._studies.study_changed(study, is_gone=False)
            except ApiError as error:
                log.warning("study %s: %s", study["metadata"]["name"], error)
            except Exception:
                log.exception("study %s: a defect of Hippo", study["metadata"]["name"])
        if (begun := self.awaited.pop(namespace, None)) is not None:
            begun.set()

    async def list_studies(self) -> list[dict[str, Any]]:
        """All Studies that this operator looks after, from the server itself. Raises ApiError."""
        namespaces: tuple[str | None, ...] = self._settings.namespaces or (None,)
        lists = [await self._api.list(STUDY, namespace) for namespace in namespaces]
        return [study for found in lists for study in found]

    def find_problem(self) -> str | None:
        """Why the operator does not work; None if it does, as far as it knows."""
        silence = self._clock() - self._looked
        if silence > max(MAX_SILENCE_SECONDS, 3 * self._settings.resync):
            return f"Studies could not be looked at for {silence:.0f} s: see the log"
        return None
