"""What another driver's engine was told, told again."""

from __future__ import annotations

from collections.abc import Iterable

from hippo.engine import Engine
from hippo.engine.commands import Command
from hippo.engine.events import Event
from hippo.engine.options import EngineOptions
from hippo.plan import CostModel, SearchPlan


def replay(
    events: Iterable[tuple[Event, float]],
    *,
    signature: str,
    options: EngineOptions,
    costs: CostModel | None = None,
) -> list[Command]:
    """All commands of a fresh engine that is told the same at the same moments.

    The engine is a pure function, so these are the commands of the driver's own, decisions and all:
    tuners whose choices depend on the order of results (ASHA, median stopping) are checked by it,
    and a recorded run can be looked into after the fact.
    """
    engine = Engine(SearchPlan(signature), options, costs=costs)
    return [command for event, now in events for command in engine.handle(event, now)]
