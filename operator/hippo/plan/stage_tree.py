"""The stage tree: the stages still to train, derived from scratch.

A stage is a range of steps, cut at forks, at wanted steps and at stored checkpoints. Its parent is
the stage that ends where it begins; without a parent it starts from a stored checkpoint or from
step 0. People see this form (``hippo plan``, statuses); the scheduler works on an incrementally
maintained version of the same tree (``frontier.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from hippo.plan.nodes import NO_WORK, Node, TrialId
from hippo.plan.search_plan import SearchPlan


@dataclass(frozen=True, slots=True)
class Stage:
    """Training of the steps ``start <= t < end``. ``key`` is the content key of its result."""

    key: str
    parent: str | None  # key of the stage before it; None for a root
    start: int
    end: int
    depth: int  # steps to train before it, from its root
    node: Node
    trials: tuple[TrialId, ...]  # trials that want metrics at its end

    @property
    def steps(self) -> int:
        return self.end - self.start


def build_stage_tree(plan: SearchPlan, *, with_resting: bool = True) -> list[Stage]:
    """Returns all stages that unfulfilled wants need, parents first.

    A stage of no steps only evaluates. ``with_resting`` includes stages that only suspended or
    ended studies want.
    """

    def asked(node: Node) -> set[int]:
        wants = node.wants.items()
        return {step for step, want in wants if with_resting or want.lead[0] > NO_WORK}

    order = list(plan.nodes())
    leaning: set[int] = set()  # numbers of nodes that need a state from above
    wanted_end: set[int] = set()  # numbers of nodes whose end a child needs
    for node in reversed(order):
        first = min(node.checkpoints, default=None)
        steps = asked(node)
        if node.number in wanted_end:
            steps.add(node.end)
        if any(first is None or step < first for step in steps):
            leaning.add(node.number)
            if node.parent is not None and node.parent.end not in node.parent.checkpoints:
                wanted_end.add(node.parent.number)
    stages: list[Stage] = []
    ends: dict[tuple[int, int], Stage] = {}  # (node, step) -> the stage that ends there
    for node in order:
        steps = asked(node)
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
            if stage.steps:  # otherwise its state is stored, so no stage depends on it
                ends[(node.number, end)] = stage
    return stages


def _pieces(node: Node, wanted: set[int]) -> list[tuple[int, int]]:
    """Returns the ranges of a node to train, ascending, cut at wanted steps and checkpoints."""
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


def count_unique_steps(plan: SearchPlan, targets: Iterable[tuple[Node, int]]) -> int:
    """Returns the steps to train from scratch, each once, to bring every (node, step) there."""
    reached: dict[int, int] = {}  # node number -> farthest step asked for within it
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
