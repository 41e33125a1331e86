"""Bounds that no schedule of a stage tree can beat, and the amount of work in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from hippo.plan.stage_tree import Stage


def critical_path(stages: Iterable[Stage]) -> int:
    """Steps of the longest path."""
    return max((stage.depth + stage.steps for stage in stages), default=0)


def unique_steps(stages: Iterable[Stage]) -> int:
    """Steps to train, each once."""
    return sum(stage.steps for stage in stages)


def count_leaves(stages: Iterable[Stage]) -> int:
    """Paths: stages after which nothing is trained."""
    stages = list(stages)
    children = _count_children(stages)
    return sum(1 for stage in stages if stage.steps and not children[stage.key])


def count_forks(stages: Iterable[Stage]) -> int:
    """Stages whose result two or more others start from."""
    return sum(1 for count in _count_children(stages).values() if count > 1)


def _count_children(stages: Iterable[Stage]) -> Counter[str]:
    return Counter(stage.parent for stage in stages if stage.parent is not None and stage.steps)


def lower_bound(stages: Iterable[Stage], workers: int) -> int:
    """C*: no schedule on ``workers`` workers ends before, even with free preemption at step ends.

    ``C* = max over d of (d + ceil(steps deeper than d / workers))``, ``d`` from 0 to the critical
    path. Between two cuts the function is linear but for rounding, so only cuts need be looked at.
    """
    cuts = _cuts([(stage.depth, stage.steps) for stage in stages])
    return max((int(d) + -(-int(deeper) // workers) for d, deeper in cuts), default=0)


def lower_bound_seconds(
    stages: Iterable[Stage],
    workers: int,
    seconds: Callable[[Stage], float],
    counts: Callable[[Stage], bool] = lambda stage: True,
) -> float:
    """The same where steps take unequal time: ``seconds`` of a stage, preemption at any moment.

    Only stages for which ``counts`` is true count as work; the rest are passed on the way.
    """
    ends: dict[str, float] = {}
    spans = []
    for stage in stages:  # parents first
        begin = ends[stage.parent] if stage.parent is not None else 0.0
        length = seconds(stage)
        if counts(stage):
            spans.append((begin, length))
        if stage.steps:
            ends[stage.key] = begin + length
    return max((d + deeper / workers for d, deeper in _cuts(spans)), default=0.0)


def _cuts(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """(depth, work deeper than that) where the number of parallel spans (begin, length) changes.

    In between, work falls by that number for each unit of depth.
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
