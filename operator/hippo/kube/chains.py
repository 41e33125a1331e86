"""Chains as pods: recorded, launched, observed, cleaned away.

Two phases: a chain is recorded in the SearchPlan, then its pod is created, under a name that
follows from the chain. Whoever is killed in between finds a record without a pod, and forgets it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hippo.kube import names
from hippo.kube.api import POD, AlreadyExists, Api, ApiError, NotFound, Refused
from hippo.kube.conditions import format_time
from hippo.kube.manifests import build_pod, pod_name
from hippo.kube.plan_object import PlanObject
from hippo.kube.pods import PodPhase, PodState, observe
from hippo.kube.settings import Settings
from hippo.kube.statuses import ChainRecord
from hippo.model import InvalidSpec, Study
from hippo.store.records import Assignment

AT_ONCE = 16
WATCH_LAG_SECONDS = 15.0
"""A pod that was created and is not seen for so long is asked for."""
KEPT_PODS = 10
"""Ended pods of a plan that stay, for their logs; as many again that failed."""
LINGER_SECONDS = 30.0
"""So long the sidecars of an ended trainer may take to end by themselves."""


@dataclass(frozen=True, slots=True)
class NotLaunched:
    """A chain that could not be launched, and why; ``is_final``: trying again cannot help."""

    chain: str
    problem: str
    is_final: bool


class Chains:
    """All chains of one plan that were launched and have not been seen to end."""

    def __init__(self, api: Api, plan: PlanObject, namespace: str, name: str, settings: Settings):
        self._api = api
        self._plan = plan
        self._namespace = namespace
        self._name = name
        self._settings = settings
        self._created: dict[str, float] = {}  # chain -> time.monotonic() of its pod's creation
        self._gate = asyncio.Semaphore(AT_ONCE)

    @property
    def records(self) -> dict[str, ChainRecord]:
        return {record.name: record for record in self._plan.status.chains}

    async def find_recorded(self) -> dict[str, dict[str, Any]]:
        """The pods of recorded chains, from the server itself; pods that nobody recorded go."""
        selector = f"{names.LABEL_PLAN}={self._name}"
        pods = await self._api.list(POD, self._namespace, labels=selector)
        records = self.records
        found: dict[str, dict[str, Any]] = {}
        for pod in pods:
            chain = pod["metadata"].get("labels", {}).get(names.LABEL_CHAIN, "")
            if chain in records and records[chain].pod == pod["metadata"]["name"]:
                found[chain] = pod
            elif not observe(pod).is_finished:
                await self._api.delete(
                    POD, self._namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"]
                )
        return found

    async def launch(self, wanted: Iterable[tuple[Assignment, Study]]) -> list[NotLaunched]:
        """Record chains, then create their pods; returns those that could not be."""
        wanted = list(wanted)
        now = format_time(time.time())
        self._plan.status.chains += [
            ChainRecord(
                name=assignment.chain,
                pod=pod_name(self._name, assignment.chain),
                study=study.name,
                start=assignment.start,
                stop=assignment.route.stop_at,
                root_key=assignment.start_key or "",
                launched_at=now,
            )
            for assignment, study in wanted
        ]
        await self._plan.write()
        results = await asyncio.gather(*(self._create(*item) for item in wanted))
        return [result for result in results if result is not None]

    async def _create(self, assignment: Assignment, study: Study) -> NotLaunched | None:
        try:
            body = build_pod(
                study,
                assignment,
                plan=self._name,
                plan_uid=self._plan.uid,
                settings=self._settings,
            )
            async with self._gate:
                await self._api.create(POD, self._namespace, body)
        except AlreadyExists:
            pass  # created by a request whose answer was lost
        except InvalidSpec as error:
            return NotLaunched(assignment.chain, str(error), is_final=True)
        except Refused as error:
            # A quota may have room again; a pod that is not valid never will be.
            is_quota = "exceeded quota" in str(error)
            return NotLaunched(assignment.chain, str(error), is_final=not is_quota)
        except ApiError as error:
            return NotLaunched(assignment.chain, str(error), is_final=False)
        self._created[assignment.chain] = time.monotonic()
        return None

    def forget(self, chains: Iterable[str]) -> bool:
        """Chains that have ended need no record any more; whether there was one to drop."""
        gone = set(chains)
        kept = [record for record in self._plan.status.chains if record.name not in gone]
        has_changed = len(kept) != len(self._plan.status.chains)
        self._plan.status.chains = kept
        for chain in gone:
            self._created.pop(chain, None)
        return has_changed

    async def look_for(self, chain: str, pods: Mapping[str, PodState]) -> PodState | None:
        """The state of a chain's pod as watched; None: it is gone for good.

        One that the watch has not shown yet is asked for, from the server itself.
        """
        record = self.records[chain]
        state = pods.get(record.pod)
        if state is not None:
            return state
        created = self._created.get(chain)
        if created is not None and time.monotonic() - created < WATCH_LAG_SECONDS:
            return PodState(PodPhase.PENDING)
        try:
            return observe(await self._api.get(POD, self._namespace, record.pod))
        except NotFound:
            return None

    async def remove(self, chain: str) -> None:
        """Delete a chain's pod, which then leaves in its own time."""
        await self._api.delete(POD, self._namespace, self.records[chain].pod)

    async def tidy(self, pods: Mapping[str, PodState]) -> None:
        """Delete ended pods but for the newest, which stay for their logs; and those whose trainer
        is over while a sidecar goes on.
        """
        recorded = {record.pod for record in self._plan.status.chains}
        now = time.time()
        for name, state in pods.items():
            waited = now - (state.finished_at or now)
            if state.lingers and name not in recorded and waited > LINGER_SECONDS:
                await self._api.delete(POD, self._namespace, name)
        for has_failed in (False, True):
            over = sorted(
                (state.finished_at or 0.0, name)
                for name, state in pods.items()
                if state.is_finished
                and (state.phase is PodPhase.FAILED) is has_failed
                and name not in recorded
            )
            for _, name in over[:-KEPT_PODS]:
                await self._api.delete(POD, self._namespace, name)
