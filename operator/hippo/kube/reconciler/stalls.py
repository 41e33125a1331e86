"""Chains whose pods run and of which nothing is heard: what a hang looks like from afar.

A pod reports when it has begun, saved and evaluated, and nothing in between. It saves after
``checkpoints.every`` at the latest, so silence that outlasts what is due next by a wide margin
means that no step has ended. That is an estimate, and nothing follows from it but what people are
told; the pod's own log says more (``stage_runner.watch``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from hippo.engine import Engine
from hippo.engine.state import ChainRun
from hippo.kube.status.conditions import format_time
from hippo.lifecycles import WorkerState
from hippo.session.stalls import LEAST_SECONDS, TIMES, describe_call, expected_step, find_patience

LATE = 2.0
"""What is due by estimate may take so many times as long before it counts as late."""


@dataclass(frozen=True, slots=True)
class SilentChain:
    """``text``: one line. It does not change as long as nothing is heard."""

    chain: str
    studies: tuple[str, ...]
    text: str


@dataclass(slots=True)
class StallWatch:
    """Looks at the chains of one plan."""

    where: Callable[[str], str]  # a chain's pod, and how to look into it
    found: dict[str, SilentChain] = field(default_factory=dict)  # by chain
    _running_since: dict[str, float] = field(default_factory=dict)

    def look(
        self,
        engine: Engine,
        *,
        running: Collection[str],  # chains whose pods run
        now: float,  # the engine's clock
        unix_now: float,
    ) -> bool:
        """Find those that are silent for too long; whether there are others than before."""
        before = set(self.found)
        for chain in engine.chains.values():
            since, patience, what = self._expect(engine, chain, running, now)
            if now - since <= patience:
                self.found.pop(chain.name, None)
            elif chain.name not in self.found:
                moment = format_time(unix_now - (now - since))
                text = f"{what} since {moment}: {chain.name} stands at step {chain.step}"
                text += "" if not chain.begun else " or later"
                text += f", {self.where(chain.name)}"
                self.found[chain.name] = SilentChain(chain.name, chain.studies, text)
        for name in self.found.keys() - engine.chains.keys():
            del self.found[name]
        for name in self._running_since.keys() - engine.chains.keys():
            del self._running_since[name]
        return before != set(self.found)

    def _expect(
        self, engine: Engine, chain: ChainRun, running: Collection[str], now: float
    ) -> tuple[float, float, str]:
        """Since when nothing is heard, for how long that is no wonder, and what is missing."""
        if chain.name not in running or chain.state is WorkerState.ARRIVED:
            return now, 0.0, ""
        costs, claim = engine.costs, chain.claim
        if not chain.begun:
            since = self._running_since.setdefault(chain.name, now)
            usual = costs.overheads.start + (costs.overheads.load if claim.start else 0.0)
            return since, max(LEAST_SECONDS, TIMES * usual), "setup() has not ended"
        if chain.step in claim.evaluate_at | claim.asked_evaluate:
            patience = find_patience(costs, chain, "evaluate", chain.step)
            return chain.step_time, patience, f"{describe_call('evaluate')} has not ended"
        due = min(
            engine.studies[name].study.spec.checkpoints.every_seconds for name in chain.studies
        )
        if costs.is_known:
            ahead = min((s for s in claim.saves() if s > chain.step), default=claim.stop_at)
            usual = costs.seconds(claim.node.sequence, chain.step, ahead)
            due = min(due, LATE * usual)
        patience = due + max(LEAST_SECONDS, TIMES * expected_step(costs, chain, chain.step))
        return chain.step_time, patience, "no step is known to have ended"
