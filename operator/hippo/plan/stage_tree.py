"""The stage tree: the stages still to train, derived from scratch, and the bounds that follow from
it.

A stage is a range of steps cut at forks, at wanted steps and at stored checkpoints. Its parent is
the stage that ends where it begins; without one it starts from a stored checkpoint, or from
nothing. This is what people look at (``hippo plan``, statuses); the scheduler works on the same
thing kept up to date (``frontier.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from hippo.plan.trie import Node, SearchPlan, TrialId


@dataclass(frozen=True, slots=True)
class Stage:
    """Train the steps ``start <= t < end``. ``key`` addresses its result."""

    key: str
    parent: str | None  # key of the stage to be trained before; None: a root
    start: int
    end: int
    depth: int  # steps to train before it, from its root on
    node: Node
    trials: tuple[TrialId, ...]  # those that want metrics at its end

    @property
    def steps(self) -> int:
        return self.end - self.start


def build_stage_tree(plan: SearchPlan) -> list[Stage]:
    """All stages that unfulfilled wants need, parents first. A stage of no steps only evaluates."""
    order = list(plan.nodes())
    leaning: set[int] = set()  # numbers of nodes that need a state from above
    wanted_end: set[int] = set()  # ... of nodes whose end a child leans on
    for node in reversed(order):
        first = min(node.checkpoints, default=None)
        steps = set(node.wants)
        if node.number in wanted_end:
            steps.add(node.end)
        if any(first is None or step < first for step in steps):
            leaning.add(node.number)
            if node.parent is not None and node.parent.end not in node.parent.checkpoints:
                wanted_end.add(node.parent.number)
    stages: list[Stage] = []
    ends: dict[tuple[int, int], Stage] = {}  # (node, step) -> the stage that ends there
    for node in order:
        steps = set(node.wants)
        if node.number in wanted_end:
            steps.add(node.end)
        for start, end in _pieces(node, steps):
            before = ends.get((node.at(start).number, start))
            want = node.wants.get(end)
            stage = Stage(
                key=node.key(end),
                parent=before.key if before is not None else None,
                start=start,
                end=end,
                depth=before.depth + before.steps if before is not None else 0,
                node=node,
                trials=tuple(sorted(want.trials)) if want is not None else (),
            )
            stages.append(stage)
            if stage.steps:  # otherwise its state is stored, and nobody has to wait for it
                ends[(node.number, end)] = stage
    return stages


def _pieces(node: Node, wanted: set[int]) -> list[tuple[int, int]]:
    """The ranges of a node to train, cut at wanted steps and checkpoints, ascending."""
    groups: dict[int, list[int]] = {}
    for step in sorted(wanted):
        position = max((c for c in node.checkpoints if c <= step), default=node.start)
        groups.setdefault(position, []).append(step)
    pieces: list[tuple[int, int]] = []
    for position, steps in sorted(groups.items()):
        if steps[0] == position:
            pieces.append((position, position))
            steps = steps[1:]
        pieces.extend(pairwise([position, *steps]))
    return pieces


def critical_path(stages: Iterable[Stage]) -> int:
    """Steps of the longest path."""
    return max((stage.depth + stage.steps for stage in stages), default=0)


def unique_steps(stages: Iterable[Stage]) -> int:
    """Steps to train, each once."""
    return sum(stage.steps for stage in stages)


def lower_bound(stages: Iterable[Stage], workers: int) -> int:
    """C*: no schedule on ``workers`` workers ends before, even with free preemption at step ends.

    ``C* = max over d of (d + ceil(steps deeper than d / workers))``, ``d`` from 0 to the critical
    path. Between two cuts the function is linear but for rounding, so only cuts need be looked at.
    """
    stages = list(stages)
    changes: dict[int, int] = {}
    for stage in stages:
        changes[stage.depth] = changes.get(stage.depth, 0) + 1
        changes[stage.depth + stage.steps] = changes.get(stage.depth + stage.steps, 0) - 1
    best, deeper, width = 0, unique_steps(stages), 0
    last = 0
    for depth in sorted(changes):
        deeper -= width * (depth - last)
        width += changes[depth]
        best = max(best, depth + -(-deeper // workers))
        last = depth
    return best


def count_unique_steps(plan: SearchPlan, targets: Iterable[tuple[Node, int]]) -> int:
    """Steps to train from nothing, each once, to bring every (node, step) there."""
    reached: dict[int, int] = {}  # node number -> the farthest step asked for within it
    for node, step in targets:
        covering = node.at(step)
        reached[covering.number] = max(reached.get(covering.number, 0), step)
    total = 0
    passed: set[int] = set()
    for node in reversed(list(plan.nodes())):
        end = node.end if node.number in passed else reached.get(node.number)
        if end is not None and node.parent is not None:
            total += end - node.start
            passed.add(node.parent.number)
    return total
