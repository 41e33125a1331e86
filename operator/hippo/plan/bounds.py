"""The amount of work in a stage tree, and bounds that no schedule of it can beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from hippo.plan.stage_tree import Stage


def critical_path(stages: Iterable[Stage]) -> int:
    """Returns the steps of the longest path."""
    return max((stage.depth + stage.steps for stage in stages), default=0)


def unique_steps(stages: Iterable[Stage]) -> int:
    """Returns the number of steps to train, each counted once."""
    return sum(stage.steps for stage in stages)


def count_leaves(stages: Iterable[Stage]) -> int:
    """Returns the number of paths: stages that no other stage continues."""
    stages = list(stages)
    children = _count_children(stages)
    return sum(1 for stage in stages if stage.steps and not children[stage.key])


def count_forks(stages: Iterable[Stage]) -> int:
    """Returns the number of stages that two or more others start from."""
    return sum(1 for count in _count_children(stages).values() if count > 1)


def _count_children(stages: Iterable[Stage]) -> Counter[str]:
    return Counter(stage.parent for stage in stages if stage.parent is not None and stage.steps)


def lower_bound(stages: Iterable[Stage], workers: int) -> int:
    """Returns C*, a lower bound of the makespan in steps on ``workers`` workers.

    ``C* = max over d of (d + ceil(steps deeper than d / workers))``, ``d`` from 0 to the critical
    path. It holds even with free preemption at step ends. Between two cuts the function is linear
    up to rounding, so only cuts are evaluated.
    """
    cuts = _cuts([(stage.depth, stage.steps) for stage in stages])
    return max((int(d) + -(-int(deeper) // workers) for d, deeper in cuts), default=0)


def lower_bound_seconds(
    stages: Iterable[Stage],
    workers: int,
    seconds: Callable[[Stage], float],
    counts: Callable[[Stage], bool] = lambda stage: True,
) -> float:
    """Like ``lower_bound`` if steps take unequal time, in seconds, with preemption at any moment.

    ``seconds`` gives the duration of a stage. Only stages for which ``counts`` is true count as
    work; the others only delay their descendants.
    """
    ends: dict[str, float] = {}
    spans = []
    for stage in stages:  # parents come first
        begin = ends[stage.parent] if stage.parent is not None else 0.0
        length = seconds(stage)
        if counts(stage):
            spans.append((begin, length))
        if stage.steps:
            ends[stage.key] = begin + length
    return max((d + deeper / workers for d, deeper in _cuts(spans)), default=0.0)


def _cuts(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns (depth, work deeper than that) where the number of parallel spans changes.

    Spans are (begin, length). In between, work falls by their number per unit of depth.
    """
    changes: Counter[float] = Counter()
    for begin, length in spans:
        changes[begin] += 1
        changes[begin + length] -= 1
    deeper = sum(length for _, length in spans)
    found, width, last = [], 0, 0.0
    for depth in sorted(changes):
        deeper -= width * (depth - last)
        width += changes[depth]
        last = depth
        found.append((depth, max(deeper, 0)))
    return found
