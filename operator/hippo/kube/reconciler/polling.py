"""When a plan's reconciler looks at reports and mailboxes next. All times are in seconds."""

from __future__ import annotations

import math

from hippo.engine import Engine

LEAST_POLL_SECONDS, MOST_POLL_SECONDS = 0.25, 5.0
"""Bounds of the interval between two looks at the reports of running chains."""
ANSWER_POLL_SECONDS = 0.1
"""Poll interval while a stopped chain must acknowledge a control or exit."""
UNKNOWN_POLL_SECONDS = 1.0
"""Poll interval while a chain has not begun, or nothing is known of how long steps take."""
LATE_SHARE = 0.25
"""A chain that is late is looked for after this share of its delay so far."""
POLL_SECONDS_PER_CHAIN = 0.001
"""Least poll interval for each running chain: a look lists all reports that are not folded yet."""
MAILBOX_SECONDS = 1.0
"""Between two looks at what external studies are asked for."""


class PollSchedule:
    """Looks at reports are made when one is expected, and never faster than they are listed."""

    def __init__(self) -> None:
        self._rest_until = -math.inf
        self._due_at = 0.0

    def may_read(self, now: float) -> bool:
        """Whether the last look was long enough ago."""
        return now >= self._rest_until

    def note_read(self, engine: Engine, now: float) -> None:
        """Reports were read."""
        self._rest_until = now + POLL_SECONDS_PER_CHAIN * len(engine.chains)

    def plan_next(self, engine: Engine, now: float) -> None:
        """Set the moment of the next look, for ``next_look``."""
        self._due_at = max(self._rest_until, now + estimate_poll(engine, now))

    @property
    def next_look(self) -> float:
        """When reports of running chains are to be read next."""
        return self._due_at


def estimate_poll(engine: Engine, now: float) -> float:
    """Seconds until a running chain is to report next, by estimate.

    A chain that is late is looked for the less often the later it is.
    """
    soonest = MOST_POLL_SECONDS
    for chain in engine.chains.values():
        if chain.begun and (chain.is_leaving or chain.pending is not None):
            return ANSWER_POLL_SECONDS
        if not chain.begun or not engine.costs.is_known:
            soonest = min(soonest, UNKNOWN_POLL_SECONDS)
            continue
        ahead = [s for s in chain.claim.saves() if s > chain.step]
        steps = min(ahead, default=chain.step) - chain.step
        due = chain.step_time + steps * engine.costs.mean_step
        soonest = min(soonest, due - now if due > now else LATE_SHARE * (now - due))
    return max(LEAST_POLL_SECONDS, soonest)
