"""Options of an engine: what differs between drivers, and which scheduling rules apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hippo.engine.reopening import LOCAL, Advice
from hippo.plan import CostModel, Frontier, SearchPlan


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options that differ between drivers. Times in seconds."""

    chain_prefix: str = "c"  # makes chain names unique among all runs over the same store
    merge: bool = True  # False: trial by trial, for comparison
    linger: float = 0.0  # how long a worker waits at its end for another route
    poll: float = 0.1  # a worker's poll interval of its control object
    window: int | None = None  # most unfinished trials of a study; None: no limit
    longest_route: int | None = None  # most saves and evaluations of a route; None: no limit
    default_parallelism: int | None = None  # of studies without their own; None: no limit
    keeps_foreign: bool = False  # keep checkpoints that a worker refuses: another may accept
    retry_pause: float = 1.0  # before the first retry; doubles each time
    longest_pause: float = 300.0
    outlasts_store: bool = False  # never halt, however often the store fails
    patience: float = 3600.0  # after which a study without a worker takes precedence, see ``Aging``
    advice: Advice = LOCAL  # how users can let a study resume


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """The rules of scheduling. Benchmarks compare the default with others."""

    create_frontier: Callable[[SearchPlan, CostModel], Frontier] = Frontier
    yields: bool = True  # running chains are preempted for more urgent paths and studies


LEAST_LAXITY = SchedulingPolicy()
