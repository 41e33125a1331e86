"""The order of trials: by their metric, with ties broken by a seeded hash.

Ties are common: trials that are equal up to a rung share their training and have one result there.
The hash decides among them without favouring any corner of the space.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Literal

Rank = tuple[bool, float, int, int]
"""Ascending, best first: (failed, metric with its sign turned to ascending, tie, trial)."""


def tie(seed: int, trial: int) -> int:
    """Returns the tie-breaker of equal metrics; smaller is better.

    Depends only on its arguments.
    """
    return int.from_bytes(sha256(f"hippo tie {seed} {trial}".encode()).digest()[:8], "big")


def rank(value: float | None, goal: Literal["maximize", "minimize"], seed: int, trial: int) -> Rank:
    """Returns a trial's rank. Failed and diverged trials (None, not finite) come last."""
    if value is None or not math.isfinite(value):
        return (True, 0.0, tie(seed, trial), trial)
    return (False, value if goal == "minimize" else -value, tie(seed, trial), trial)
