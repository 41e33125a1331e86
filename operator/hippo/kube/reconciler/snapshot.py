"""A plan as a round has left it: what statuses are made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hippo.engine import Engine
from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.reconciler.stalls import SilentChain
from hippo.kube.status.models import SearchPlanStatus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A plan as a round has left it. Nothing feeds the engine until statuses are written."""

    name: str
    engine: Engine
    studies: Mapping[str, Accepted]
    documents: Mapping[str, Mapping[str, Any]]
    """The records of studies in the store, by name."""
    plan_status: SearchPlanStatus
    reopened: Mapping[str, str]
    """Studies that had ended and go on, and with what."""
    inexact: frozenset[str]
    """Studies of which a step was trained twice with different results."""
    problem: tuple[str, str] | None
    """Reason and message, if nothing more may be launched."""
    waiting: Mapping[str, str]
    """Chains whose pods do not begin, and why."""
    queued: frozenset[str]
    """Chains whose pods would begin if there were room."""
    stalls: Collection[SilentChain]
    """Chains that seem to hang."""

    def find_problem(self, name: str) -> tuple[str, str] | None:
        """Why nothing goes on with a study, if so."""
        if self.problem is not None:
            return self.problem
        trouble = self.engine.find_trouble(name)
        if trouble is not None and trouble.is_store:
            return names.REASON_STORE, trouble.message
        own = [chain for chain in self.engine.chains.values() if name in chain.studies]
        waiting = [self.waiting[chain.name] for chain in own if chain.name in self.waiting]
        if waiting and len(waiting) == len(own):
            more = f" ({len(waiting)} pods wait)" if len(waiting) > 1 else ""
            return names.REASON_WAITING, f"{waiting[0]}{more}"
        return self._find_better(name) if not own else None

    def _find_better(self, name: str) -> tuple[str, str] | None:
        """The study whose pods wait for room, if that is why another has none."""
        engine = self.engine
        queued = {chain.study for chain in engine.chains.values() if chain.name in self.queued}
        priority = engine.studies[name].study.spec.priority
        better = [n for n in queued if engine.studies[n].study.spec.priority > priority]
        if not better:
            return None
        message = f"there is no room for its pods: study {min(better)} has a higher priority"
        return names.REASON_WAITING, f"{message}, and its pods wait for room first"

    def find_stall(self, name: str) -> str | None:
        """Which of its chains seem to hang, if any do."""
        found = [stall for stall in self.stalls if name in stall.studies]
        if not found:
            return None
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return f"{found[0].text}{more}"
