"""Monitors the pods of running chains for what no report tells: they do not begin, or are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hippo.engine import Engine
from hippo.kube import names
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.state import GONE, Cause, PodPhase, PodState
from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.plan_object import PlanObject

SAVING_SECONDS = 10.0
"""A pod that was removed by force may still be at work: for so long its last report is waited
for."""


@dataclass(slots=True)
class _Preempted:
    """A chain whose worker has reported that it was told to leave."""

    study: str
    chain: str
    message: str = GONE.message


class PodMonitor:
    """Looks at the pods of one plan."""

    def __init__(
        self,
        namespace: str,
        name: str,
        plan: PlanObject,
        chains: ChainPods,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = (namespace, name)
        self._plan = plan
        self._chains = chains
        self._metrics = metrics
        self._clock = clock
        self._timed: set[str] = set()
        self._seen_running: set[str] = set()
        self._over_since: dict[str, float] = {}  # by chain, by the clock
        self._preempted: dict[str, _Preempted] = {}  # by name of the pod
        self.waiting: dict[str, str] = {}
        """Chains whose pods do not begin, and why."""
        self.queued: frozenset[str] = frozenset()
        """Those of them that would begin if there were room."""
        self.problem: tuple[str, str] | None = None
        """Reason and message, if nothing more may be launched."""
        self.is_changed = False
        """There is a problem that was not there before."""

    async def look(
        self, engine: Engine, pods: Mapping[str, PodState]
    ) -> list[tuple[str, PodState | None]]:
        """Chains of the engine whose pods are over; None: gone, and nobody saw how.

        Raises ApiError.
        """
        await self._chains.create_again()
        over: list[tuple[str, PodState | None]] = []
        waiting: dict[str, str] = {}
        queued: set[str] = set()
        for chain in list(self._chains.records):
            running = engine.chains.get(chain)
            if running is None:
                continue
            state = await self._chains.look_for(chain, pods)
            if state is None or state.is_finished:
                if self._may_be_saving(chain, state, has_begun=running.begun):
                    continue
                over.append((chain, state))
                self._forget(chain)
                continue
            if not self._is_same_image(state):
                await self._chains.remove(chain, grace_seconds=0)  # before it has saved anything
            self._note_times(chain, state)
            if state.phase is not PodPhase.PENDING:
                self._seen_running.add(chain)
                if state.cause is Cause.NODE_LOST:
                    waiting[chain] = state.message
                continue
            if running.is_leaving:
                await self._chains.remove(chain)  # it need not begin in order to be told to leave
            elif state.message:
                waiting[chain] = state.message
                if state.is_queued:
                    queued.add(chain)
        self.waiting, self.queued = waiting, frozenset(queued)
        return over

    @property
    def running(self) -> set[str]:
        """Chains whose pods run, as far as can be told."""
        return self._seen_running - self.waiting.keys()

    def note_preempted(self, chain: str, study: str) -> None:
        """Its worker has left because it was told to; why, its pod's status is to tell."""
        if chain in self._chains.records:
            self._preempted[self._chains.pod_of(chain)] = _Preempted(study, chain)

    def tell_preempted(self, pods: Mapping[str, PodState]) -> Iterator[tuple[str, str]]:
        """Study and message, once for each that was noted."""
        for name, preempted in list(self._preempted.items()):
            state = pods.get(name)
            if state is not None and state.message:
                preempted.message = state.message
            if state is None or state.is_finished:
                del self._preempted[name]
                yield preempted.study, f"{preempted.chain}: {preempted.message}"

    def _may_be_saving(self, chain: str, state: PodState | None, *, has_begun: bool) -> bool:
        """Whether its last report is still to be waited for, although its pod is over."""
        if state is not None:
            most = state.saving_seconds
        else:
            most = SAVING_SECONDS if has_begun or chain in self._seen_running else 0.0
        since = self._over_since.setdefault(chain, self._clock())
        return self._clock() - since < most

    def _forget(self, chain: str) -> None:
        self._seen_running.discard(chain)
        self._over_since.pop(chain, None)
        self._timed.discard(chain)

    def _is_same_image(self, state: PodState) -> bool:
        """The first pod's image pins the plan: what a tag points at may change."""
        if state.image_id is None or state.phase is not PodPhase.RUNNING:
            return True
        pinned = self._plan.status.image_id
        if pinned is None:
            self._plan.status.image_id = state.image_id
        is_same = self._plan.status.image_id == state.image_id
        if not is_same and self.problem is None:
            self.problem = (
                names.REASON_IMAGE_CHANGED,
                f"the image has changed: the plan was begun with {pinned}, and a pod now runs"
                f" {state.image_id}: name the image by its digest, or make a new study with another"
                " spec.trainer.version",
            )
            self.is_changed = True
        return is_same

    def _note_times(self, chain: str, state: PodState) -> None:
        if chain in self._timed or state.started_at is None or state.created_at is None:
            return
        self._timed.add(chain)
        scheduled = state.scheduled_at or state.created_at
        self._metrics.note_pod(
            *self._place,
            queue_seconds=max(0.0, scheduled - state.created_at),
            startup_seconds=max(0.0, state.started_at - scheduled),
        )
