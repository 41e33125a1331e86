"""Metrics of simulated trials: from a synthetic family of curves, or recorded by real training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hippo.model import InvalidSpec, Objective, Sequence, canonical_json
from hippo.plan import Metrics, SearchPlan

_PARTS = 8


class Curves(Protocol):
    """Metrics by content: equal prefixes have equal metrics, as with real trainers."""

    def metrics(self, sequence: Sequence, step: int, seed: int) -> Metrics: ...


@dataclass(frozen=True, slots=True)
class SyntheticCurves:
    """A family of saturating curves.

    The value after step s of ``horizon`` is ``v(s) = q(s) * (1 - exp(-4 s / horizon))``; for a
    metric to minimize it is ``1 - v(s)``. ``q(s)``, between 0 and 1, is the mean, over the middles
    of eight equal parts of [0, s), of a hash of the values in force there. Trials with constant
    values keep their order, and trials that diverge drift apart.
    """

    objectives: tuple[Objective, ...]
    horizon: int

    def metrics(self, sequence: Sequence, step: int, seed: int) -> Metrics:
        middles = [step * (2 * part + 1) // (2 * _PARTS) for part in range(_PARTS)]
        quality = sum(_draw(seed, sequence.values(t)) for t in middles) / _PARTS
        value = quality * (1 - math.exp(-4 * step / self.horizon))
        metrics = {}
        for objective in self.objectives:
            shown = value if objective.goal == "maximize" else 1 - value
            metrics[objective.metric] = shown
            if objective.test_metric is not None:
                metrics.setdefault(objective.test_metric, shown)
        return metrics


def _draw(seed: int, values: Mapping[str, object]) -> float:
    text = f"curve {seed} {canonical_json(dict(values))}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12


@dataclass(frozen=True, slots=True)
class RecordedCurves:
    """Metrics by content key, recorded under this signature and seed."""

    signature: str
    recorded: Mapping[str, Metrics]
    source: str  # for messages
    seed: int = 0

    def metrics(self, sequence: Sequence, step: int, seed: int) -> Metrics:
        """Returns recorded metrics. Raises InvalidSpec if there are none."""
        plan = SearchPlan(self.signature)
        node = plan.insert(sequence, seed=seed if seed != self.seed else None)
        found = self.recorded.get(node.at(step).key(step))
        if found is None:
            values = canonical_json(dict(sequence.hyperparameters))
            raise InvalidSpec.at(
                "--curves",
                f"{self.source} holds no metrics of {values} at step {step}, seed {seed}:"
                " train it there, by a grid over the same space for instance",
            )
        return found
