"""The live stage tree as a status shows it: all stages of a plan, folded so that it stays small.

A stage is a piece of a plan's node, cut at requested steps. Counts are taken before anything is
folded, so they are exact whatever the size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from hippo.engine.state import ChainRun, TrialRun
from hippo.kube.status.models import StageCounts, TreeStage
from hippo.plan import Node, SearchPlan

MOST_ENTRIES = 120
"""Of a folded tree: with about 200 bytes each, far below what an object may hold."""

State = Literal["Pending", "Running", "Done", "Failed", "Folded"]


@dataclass(slots=True, eq=False)
class StageView:
    """A stage and what follows it."""

    node: Node
    start: int
    end: int
    state: State
    trials: int
    chain: str | None
    following: list[StageView] = field(default_factory=list)


def build_tree(
    plan: SearchPlan, trials: Iterable[TrialRun], chains: Iterable[ChainRun]
) -> list[StageView]:
    """All stages that anybody asked for, as roots; costs in proportion to nodes and trials."""
    asked: dict[int, dict[int, int]] = {}  # node number -> step -> trials that end there
    failed: set[tuple[int, int]] = set()
    for trial in trials:
        latest = trial.latest
        steps = {trial.target} if not trial.state.is_final else set[int]()
        if latest is not None:
            steps.add(latest[0])
        if not steps:
            if str(trial.state) != "Failed":
                continue
            steps.add(trial.target)
        last = max(steps)
        node = trial.node.at(last)
        at = asked.setdefault(node.number, {})
        at[last] = at.get(last, 0) + 1
        if str(trial.state) == "Failed":
            failed.add((node.number, last))
    covering: dict[int, list[ChainRun]] = {}
    for chain in chains:
        for node in chain.claim.nodes():
            covering.setdefault(node.number, []).append(chain)
    return _build(plan.root, asked, failed, covering)


def _build(
    root: Node,
    asked: Mapping[int, Mapping[int, int]],
    failed: set[tuple[int, int]],
    covering: Mapping[int, list[ChainRun]],
) -> list[StageView]:
    order = [node for node in root.below() if node.parent is not None]
    tops: dict[int, list[StageView]] = {}  # node number -> the first stages at or below it
    below: dict[int, tuple[int, bool]] = {}  # node number -> trials ending below; is any done
    for node in reversed(order):
        following: list[StageView] = []
        count, is_done = 0, False
        for child in node.children.values():
            following += tops.pop(child.number, [])
            child_count, child_done = below.pop(child.number, (0, False))
            count, is_done = count + child_count, is_done or child_done
        ends = dict(asked.get(node.number, {}))
        cuts = sorted({*ends, *(s for s in node.metrics), *([node.end] if count else [])})
        last = node.end if count else max(ends, default=0)
        pieces = [(a, b) for a, b in pairwise([node.start, *cuts]) if b <= last]
        for start, end in reversed(pieces):
            count += ends.get(end, 0)
            is_done = is_done or end in node.metrics or end in node.checkpoints
            chain = _find_chain(covering.get(node.number, ()), end)
            state: State = "Done" if is_done else "Running" if chain is not None else "Pending"
            if not is_done and (node.number, end) in failed:
                state = "Failed"
            name = chain.name if chain is not None and state == "Running" else None
            following = [StageView(node, start, end, state, count, name, following)]
        tops[node.number] = following
        below[node.number] = (count, is_done)
    return [view for child in root.children.values() for view in tops.pop(child.number, [])]


def _find_chain(chains: Iterable[ChainRun], end: int) -> ChainRun | None:
    return next((c for c in chains if c.claim.start < end <= c.claim.stop_at), None)


def count_stages(roots: Iterable[StageView]) -> StageCounts:
    """How many stages there are by state; exact."""
    counts = {"Done": 0, "Running": 0, "Pending": 0, "Failed": 0}
    stack = list(roots)
    while stack:
        view = stack.pop()
        counts[view.state] += 1
        stack += view.following
    return StageCounts(**{name.lower(): count for name, count in counts.items()})


def fold_tree(roots: list[StageView], *, most: int = MOST_ENTRIES) -> list[TreeStage]:
    """The tree as a list in depth-first order, at most ``most`` entries: finished subtrees are
    folded first, then those farthest from the roots.
    """
    order = _walk(roots, set())
    sizes: dict[StageView, int] = {}
    finished: dict[StageView, bool] = {}
    for view, _ in reversed(order):
        sizes[view] = 1 + sum(sizes[child] for child in view.following)
        finished[view] = view.state == "Done" and all(finished[c] for c in view.following)
    folded: set[StageView] = set()
    if len(order) > most:
        folded = {view for view, _ in order if finished[view] and sizes[view] > 1}
        order = _walk(roots, folded)
    if len(order) > most:
        count, deepest = 0, 0
        for depth, views in sorted(Counter(depth for _, depth in order).items()):
            count += views
            if count > most:
                break
            deepest = depth
        folded |= {view for view, depth in order if depth == deepest and view.following}
        order = _walk(roots, folded)
    shown = order if len(order) <= most else order[: most - 1]
    found = [_entry(view, depth, sizes[view] if view in folded else None) for view, depth in shown]
    if len(shown) < len(order):
        found.append(_rest([view for view, depth in order[most - 1 :] if depth == 0], sizes))
    return found


def _walk(roots: list[StageView], folded: set[StageView]) -> list[tuple[StageView, int]]:
    """Stages with their depth, depth first; nothing below folded ones."""
    found: list[tuple[StageView, int]] = []
    stack = [(view, 0) for view in reversed(roots)]
    while stack:
        view, depth = stack.pop()
        found.append((view, depth))
        if view not in folded:
            stack += [(child, depth + 1) for child in reversed(view.following)]
    return found


def _entry(view: StageView, depth: int, stages: int | None) -> TreeStage:
    return TreeStage(
        steps=f"{view.start}-{view.end}",
        state="Folded" if stages is not None else view.state,
        trials=view.trials,
        changes=_changes(view),
        depth=depth,
        chain=view.chain,
        stages=stages,
    )


def _rest(views: list[StageView], sizes: Mapping[StageView, int]) -> TreeStage:
    return TreeStage(
        steps=f"{min(v.start for v in views)}-{max(v.end for v in views)}",
        state="Folded",
        trials=sum(view.trials for view in views),
        depth=0,
        stages=sum(sizes[view] for view in views),
    )


def _changes(view: StageView) -> dict[str, Any]:
    """The values that hold from the stage's first step on, where they differ from the last."""
    sequence = view.node.sequence
    values = dict(sequence.values(view.start))
    if view.start == 0:
        return values
    before = dict(sequence.values(view.start - 1))
    return {name: value for name, value in values.items() if before.get(name) != value}
