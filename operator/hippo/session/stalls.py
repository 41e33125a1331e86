"""Reports calls of a trainer that do not end: when, and in which words.

A hang cannot be distinguished from a slow call, so these messages have no consequences: they are
for people. ``trainer.stepTimeout`` is the limit that ends a worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from hippo.engine.state import ChainRun
from hippo.plan import CostModel
from hippo.protocol.reports import During

LEAST_SECONDS = 120.0
TIMES = 10.0
"""A call is reported once it has lasted this many times the average duration of such calls."""


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
    """Return the seconds after which a call is conspicuous, by the measurements of such calls."""
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
    """Return the expected seconds of a step by the measurements; 0 without any."""
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
    """Format seconds for people: ``45 s``, ``2 min``, ``1 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
