"""Chains as pods: recorded, launched, observed, cleaned away.

Two phases: a chain is recorded in the SearchPlan, then its pod is created, under a name that
follows from the chain. Whoever is killed in between finds a record without a pod, and forgets it.
A pod that cannot be created now, for want of quota or of an answer, is tried again: its chain
waits, as one whose pod is not scheduled does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hippo.kube import names
from hippo.kube.client import AlreadyExists, Api, ApiError, NotFound, Refused
from hippo.kube.pods.causes import Cause
from hippo.kube.pods.manifest import build_pods, pod_name
from hippo.kube.pods.state import PodPhase, PodState, observe
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.resources import POD
from hippo.kube.settings import Settings
from hippo.kube.status.models import ChainRecord
from hippo.model import InvalidSpec, Study
from hippo.protocol.assignments import Assignment

log = logging.getLogger(__name__)

AT_ONCE = 16
WATCH_LAG_SECONDS = 15.0
"""A pod that was created and is not seen for so long is asked for."""
CREATE_AGAIN_SECONDS = 3.0
"""Between two attempts to create pods that could not be."""
OTHERS_GRACE_SECONDS = 30
"""For containers beside a trainer that has ended, as Kubernetes gives by default: the pod's own
grace is the trainer's.
"""
KEPT_PODS = 10
"""Ended pods of a plan that stay, for their logs; as many again that failed."""


@dataclass(frozen=True, slots=True)
class NotLaunched:
    """A chain that cannot be launched, whenever it is tried, and why."""

    chain: str
    problem: str


@dataclass(slots=True)
class _Uncreated:
    """A pod that could not be created yet, and why."""

    body: dict[str, Any]
    cause: Cause
    problem: str


class ChainPods:
    """All chains of one plan that were launched and have not been seen to end."""

    def __init__(
        self,
        api: Api,
        plan: PlanObject,
        namespace: str,
        name: str,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._plan = plan
        self._namespace = namespace
        self._name = name
        self._settings = settings
        self._clock = clock
        self._created: dict[str, float] = {}  # chain -> by the clock; until its pod is seen
        self._uncreated: dict[str, _Uncreated] = {}  # by chain
        self._create_at = 0.0  # by the clock: the next attempt to create these
        self.is_tidy = True
        """No pod of a chain that has ended is still to end, as of the last ``tidy``."""
        self._gate = asyncio.Semaphore(AT_ONCE)
        self.records = {record.name: record for record in plan.status.chains}
        """By name of the chain, as they are to stand in the SearchPlan."""

    def pod_of(self, chain: str) -> str:
        """The name of its pod."""
        return pod_name(self._name, chain)

    async def find_recorded(self) -> dict[str, dict[str, Any]]:
        """The pods of recorded chains, from the server itself; pods that nobody recorded go."""
        selector = f"{names.LABEL_PLAN}={self._name}"
        pods = await self._api.list(POD, self._namespace, labels=selector)
        found: dict[str, dict[str, Any]] = {}
        for pod in pods:
            chain = pod["metadata"].get("labels", {}).get(names.LABEL_CHAIN, "")
            if chain in self.records and pod["metadata"]["name"] == self.pod_of(chain):
                found[chain] = pod
            elif not observe(pod).is_finished:
                await self._api.delete(
                    POD, self._namespace, pod["metadata"]["name"], uid=pod["metadata"]["uid"]
                )
        return found

    async def launch(self, wanted: Iterable[tuple[Assignment, Study]]) -> list[NotLaunched]:
        """Record chains, then create their pods; returns those that never can be."""
        wanted = list(wanted)
        for assignment, study in wanted:
            self.records[assignment.chain] = ChainRecord(name=assignment.chain, study=study.name)
        self._plan.status.chains = list(self.records.values())
        await self._plan.write()
        results = await asyncio.gather(*(self._build(*item) for item in wanted))
        return [result for result in results if result is not None]

    async def _build(self, assignment: Assignment, study: Study) -> NotLaunched | None:
        try:
            bodies = build_pods(
                study,
                assignment,
                plan=self._name,
                plan_uid=self._plan.uid,
                settings=self._settings,
            )
            async with self._gate:
                try:
                    await self._create(assignment.chain, bodies[0])
                except Refused:
                    if len(bodies) == 1:
                        raise
                    await self._create(assignment.chain, bodies[1])
        except InvalidSpec as error:
            return NotLaunched(assignment.chain, str(error))
        except Refused as error:
            return NotLaunched(assignment.chain, f"its pod is refused: {error}")
        return None

    async def _create(self, chain: str, body: dict[str, Any]) -> bool:
        """Whether it was; if not, it is tried again. Raises Refused if that cannot help."""
        try:
            await self._api.create(POD, self._namespace, body)
        except AlreadyExists:
            pass  # created by a request whose answer was lost
        except ApiError as error:
            if isinstance(error, Refused) and not is_for_quota(error):
                raise
            cause = Cause.NO_QUOTA if is_for_quota(error) else Cause.NOT_CREATED
            self._uncreated[chain] = _Uncreated(body, cause, _describe(error))
            self._create_at = self._clock() + CREATE_AGAIN_SECONDS
            return False
        self._uncreated.pop(chain, None)
        self._created[chain] = self._clock()
        log.info("pod %s/%s is created", self._namespace, self.pod_of(chain))
        return True

    async def create_again(self) -> None:
        """Try to create the pods that could not be, if it is time. Raises ApiError, TakenOver."""
        if not self._uncreated or self._clock() < self._create_at:
            return
        await self._plan.write()  # nobody has taken over since they were recorded
        for chain, waiting in list(self._uncreated.items()):
            try:
                if not await self._create(chain, waiting.body):
                    return
            except Refused:
                del self._uncreated[chain]  # as gone: when it is launched anew, it is told

    def forget(self, chains: Iterable[str]) -> bool:
        """Chains that have ended need no record any more; whether there was one to drop."""
        has_changed = False
        for chain in list(chains):
            has_changed |= self.records.pop(chain, None) is not None
            self._created.pop(chain, None)
            self._uncreated.pop(chain, None)
        self._plan.status.chains = list(self.records.values())
        return has_changed

    async def look_for(self, chain: str, pods: Mapping[str, PodState]) -> PodState | None:
        """The state of a chain's pod as watched; None: it is gone for good.

        One that the watch has not shown yet is asked for, from the server itself.
        """
        state = pods.get(self.pod_of(chain))
        if state is not None:
            self._created.pop(chain, None)  # if it is missing from now on, it is gone
            return state
        if (uncreated := self._uncreated.get(chain)) is not None:
            return PodState(PodPhase.PENDING, uncreated.cause, uncreated.problem)
        created = self._created.get(chain)
        if created is not None and self._clock() - created < WATCH_LAG_SECONDS:
            return PodState(PodPhase.PENDING)
        try:
            return observe(await self._api.get(POD, self._namespace, self.pod_of(chain)))
        except NotFound:
            return None

    async def remove(self, chain: str, *, grace_seconds: int | None = None) -> None:
        """Delete a chain's pod, which then leaves in its own time, or within the seconds given."""
        if self._uncreated.pop(chain, None) is not None:
            return
        await self._delete(self.pod_of(chain), grace_seconds)

    async def tidy(self, pods: Mapping[str, PodState]) -> None:
        """Delete ended pods but for the newest, which stay for their logs; and those whose trainer
        is over while another container goes on.
        """
        recorded = {self.pod_of(chain) for chain in self.records}
        leaving = {
            name: state
            for name, state in pods.items()
            if name not in recorded and state.gone_by is None
        }
        unwanted: dict[str, int | None] = {
            name: OTHERS_GRACE_SECONDS for name, state in leaving.items() if state.lingers
        }
        self.is_tidy = all(s.is_finished and not s.lingers for s in leaving.values())
        for has_failed in (False, True):
            over = sorted(
                (state.finished_at or 0.0, name)
                for name, state in pods.items()
                if state.is_finished
                and (state.phase is PodPhase.FAILED) is has_failed
                and name not in recorded
            )
            unwanted |= {name: None for _, name in over[:-KEPT_PODS]}
        await asyncio.gather(*(self._delete(name, grace) for name, grace in unwanted.items()))

    async def _delete(self, pod: str, grace_seconds: int | None) -> None:
        async with self._gate:
            await self._api.delete(POD, self._namespace, pod, grace_seconds=grace_seconds)


def is_for_quota(error: ApiError) -> bool:
    """Whether a pod was refused only for now: a quota may have room again."""
    return "exceeded quota" in str(error)


def _describe(error: ApiError) -> str:
    words = str(error)
    if is_for_quota(error):
        return (
            f"there is no quota for a pod: {words[words.index('exceeded quota') :]}: wait for room,"
            " lower spec.parallelism, or let the namespace's admin raise the ResourceQuota"
        )
    return f"the pod cannot be created: {words}; it is tried again"
