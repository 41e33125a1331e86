"""What there is room for in the cluster, told to the engine."""

from __future__ import annotations

from hippo.engine import Engine
from hippo.engine.events import Queued, WorkersChanged
from hippo.kube.reconciler.engine_pump import EnginePump
from hippo.kube.reconciler.pod_monitor import PodMonitor
from hippo.kube.settings import Settings


class Capacity:
    """Tells the engine how many workers there may be, and which wait for room."""

    def __init__(
        self, engine: Engine, pump: EnginePump, watch: PodMonitor, settings: Settings
    ) -> None:
        self._engine = engine
        self._pump = pump
        self._watch = watch
        self._settings = settings
        self._queued: frozenset[str] = frozenset()  # as the engine was told

    async def tell_workers(self) -> None:
        """As many workers as active studies may have; none while something forbids to launch."""
        count = self._count_workers() if self._watch.problem is None else 0
        await self._pump.feed(WorkersChanged(count))

    def _count_workers(self) -> int:
        wanted = sum(
            run.study.spec.parallelism or self._settings.default_parallelism
            for run in self._engine.studies.values()
            if run.is_active
        )
        return min(wanted, self._settings.max_workers)

    async def tell_queued(self, chains: frozenset[str]) -> None:
        """Pods of these chains would begin if there were room."""
        if chains != self._queued:
            self._queued = chains
            await self._pump.feed(Queued(chains))
