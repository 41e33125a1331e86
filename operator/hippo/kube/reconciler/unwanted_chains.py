"""Chains that no active study needs any more."""

from __future__ import annotations

import math
from collections.abc import Callable

from hippo.engine import Engine
from hippo.kube.reconciler.chain_pods import ChainPods


class UnwantedChains:
    """Deletes the pods of chains that do not leave by themselves. ``clock`` counts seconds."""

    def __init__(self, engine: Engine, chains: ChainPods, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._chains = chains
        self._clock = clock
        self._since: dict[str, float] = {}  # by chain; infinite once its pod was deleted

    async def hurry(self) -> None:
        """A chain has its grace to leave, and then its kubelet's. Raises ApiError."""
        now, engine = self._clock(), self._engine
        for chain in engine.chains.values():
            if any(engine.studies[name].is_active for name in chain.studies):
                self._since.pop(chain.name, None)
                continue
            since = self._since.setdefault(chain.name, now)
            if now - since > engine.studies[chain.study].study.spec.trainer.max_grace_seconds:
                self._since[chain.name] = math.inf
                await self._chains.remove(chain.name)
        for name in self._since.keys() - engine.chains.keys():
            del self._since[name]
