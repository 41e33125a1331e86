"""How trials are compared: by their metric, and by a seeded hash where metrics are equal.

Equal metrics are the rule, not the exception: trials that are equal up to a rung are one piece of
work and have one result there. The hash decides among them in one stated way that favours no corner
of the space.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Literal

Rank = tuple[bool, float, int, int]
"""Ascending order, best first: (failed, metric with its sign turned to ascending, tie, trial)."""


def tie(seed: int, trial: int) -> int:
    """What decides between equal metrics; smaller is better. A function of its arguments alone."""
    return int.from_bytes(sha256(f"hippo tie {seed} {trial}".encode()).digest()[:8], "big")


def rank(value: float | None, goal: Literal["maximize", "minimize"], seed: int, trial: int) -> Rank:
    """Where a trial stands. A failed or diverged one (None, not finite) comes after all others."""
    if value is None or not math.isfinite(value):
        return (True, 0.0, tie(seed, trial), trial)
    return (False, value if goal == "minimize" else -value, tie(seed, trial), trial)
