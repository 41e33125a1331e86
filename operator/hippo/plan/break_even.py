"""When merging pays: what shared stages save, and what their forks cost.

Trained apart, ``k`` trials train a stage that they share ``k`` times. Merged, they train it once,
but where they part into ``c`` branches its end is saved, and ``c - 1`` workers load it; the last
branch goes on in place. Each trial has its worker's start either way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hippo.plan.costs import Overheads
from hippo.plan.nodes import TrialId
from hippo.plan.stage_tree import Stage


@dataclass(frozen=True, slots=True)
class BreakEven:
    """What merging saves and costs, and the length from which a stage pays."""

    steps: int  # a stage that two trials share pays from so many steps on
    shared: int  # number of stages that trials share
    unpaid: int  # number of those that cost more than they save
    saved: float  # seconds of training
    cost: float  # seconds of saving and loading at forks


def find_break_even(
    stages: Sequence[Stage], step_seconds: float, overheads: Overheads
) -> BreakEven:
    """Weighs the stages of a tree, parents first. ``step_seconds`` is positive."""
    branches = Counter(stage.parent for stage in stages if stage.steps)
    trials: dict[str, set[TrialId]] = {stage.key: set(stage.trials) for stage in stages}
    for stage in reversed(stages):
        if stage.parent is not None:
            trials[stage.parent] |= trials[stage.key]
    shared = unpaid = 0
    saved = cost = 0.0
    for stage in stages:
        sharers = len(trials[stage.key])
        if not stage.steps or sharers < 2:
            continue
        gain = (sharers - 1) * stage.steps * step_seconds
        loads = branches[stage.key] - 1
        price = overheads.save + loads * overheads.load if loads > 0 else 0.0
        shared += 1
        unpaid += gain < price
        saved += gain
        cost += price
    least = (overheads.save + overheads.load) / step_seconds
    return BreakEven(math.floor(least) + 1, shared, unpaid, saved, cost)
