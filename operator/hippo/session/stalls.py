"""Tells people of calls of a trainer that do not end: when, and in which words.

A hang cannot be told from a call that takes long. So nothing follows from what is said here: it is
for people. ``trainer.stepTimeout`` is the limit that ends a worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from hippo.engine.state import ChainRun
from hippo.plan import CostModel
from hippo.protocol.reports import During

LEAST_SECONDS = 120.0
TIMES = 10.0
"""A call is told of once it has lasted for so many times what such a call has taken on average."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A worker that stands in one call for conspicuously long."""

    chain: str
    study: str
    during: During
    step: int
    seconds: float
    worker: str  # where it can be found: "pid 4711"
    place: str = ""  # in the trainer's code

    @property
    def is_of_step(self) -> bool:
        return self.during == "step"

    def __str__(self) -> str:
        what = f"no step has ended for {describe_span(self.seconds)}"
        if not self.is_of_step:
            what = f"{describe_call(self.during)} has not ended for {describe_span(self.seconds)}"
        at = f" ({self.place})" if self.place else ""
        return f"{what}: {self.chain} stands at step {self.step}{at}, {self.worker}"


def find_patience(
    costs: CostModel, chain: ChainRun, during: During, step: int, least: float = LEAST_SECONDS
) -> float:
    """Seconds that a call may take before it is conspicuous, by what is known of such calls."""
    overheads = costs.overheads
    match during:
        case "step":
            usual = expected_step(costs, chain, step)
        case "evaluate":
            usual = overheads.evaluate
        case "setup" | "import":
            usual = overheads.start
        case "load":
            usual = overheads.load
        case _:
            usual = overheads.save
    return max(least, TIMES * usual)


def expected_step(costs: CostModel, chain: ChainRun, step: int) -> float:
    """Seconds of this step by what was measured; 0 if nothing was."""
    if not costs.is_known:
        return 0.0
    return costs.seconds(chain.claim.node.sequence, step, step + 1)


def describe_call(during: During) -> str:
    match during:
        case "setup" | "evaluate":
            return f"{during}()"
        case "load":
            return "load_state_dict()"
        case "save":
            return "state_dict()"
        case "import":
            return "the import of the trainer"
        case "step":
            return "a step"
        case "start" | "store":
            return "the worker's start" if during == "start" else "waiting for the store"


def describe_span(seconds: float) -> str:
    """``45 s``, ``2 min``, ``1 h 5 min``: as exact as a person needs it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
