"""How an engine is set up: what differs between drivers, and which scheduling rules apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hippo.engine.reopening import LOCAL, Advice
from hippo.plan import CostModel, Frontier, SearchPlan


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What differs between drivers. Times in seconds."""

    chain_prefix: str = "c"  # makes chain names unique among all runs over the same store
    merge: bool = True  # False: trial by trial, for comparison
    linger: float = 0.0  # how long a worker waits at its end for another route
    poll: float = 0.1  # how often a worker looks at its control object
    window: int | None = None  # most trials of a study under way at once; None: all
    longest_route: int | None = None  # most saves and evaluations of a route; None: any number
    default_parallelism: int | None = None  # of studies that do not say; None: any number
    keeps_foreign: bool = False  # checkpoints that a worker refuses stay: another may take them
    retry_pause: float = 1.0  # before the first retry; doubles each time
    longest_pause: float = 300.0
    outlasts_store: bool = False  # however often the store fails workers, the engine never halts
    patience: float = 3600.0  # after which a study without a worker goes first, see ``Aging``
    advice: Advice = LOCAL  # what users do to let a study go on


@dataclass(frozen=True, slots=True)
class SchedulingPolicy:
    """Which rules decide who trains next. Benchmarks compare the default with others."""

    create_frontier: Callable[[SearchPlan, CostModel], Frontier] = Frontier
    yields: bool = True  # running chains yield to paths and studies in more need


LEAST_LAXITY = SchedulingPolicy()
