"""The live stage tree as a status shows it: all stages of a plan, folded so that it stays small.

A stage is a piece of a plan's node, cut at requested steps. Counts are taken before anything is
folded, so they are exact whatever the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from hippo.kube.statuses import StageCounts, TreeStage
from hippo.plan import Node, SearchPlan
from hippo.runs import ChainRun, TrialRun

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
    depths: dict[StageView, int] = {}
    order: list[StageView] = []
    stack = [(view, 0) for view in reversed(roots)]
    while stack:
        view, depth = stack.pop()
        depths[view] = depth
        order.append(view)
        stack += [(child, depth + 1) for child in reversed(view.following)]
    sizes: dict[StageView, int] = {}
    finished: dict[StageView, bool] = {}
    for view in reversed(order):
        sizes[view] = 1 + sum(sizes[child] for child in view.following)
        finished[view] = view.state == "Done" and all(finished[c] for c in view.following)
    entries = len(order)
    folded: set[StageView] = set()
    if entries > most:
        folded = {view for view in order if finished[view] and sizes[view] > 1}
    deepest = max(depths.values(), default=0)
    while deepest >= 0 and _count_entries(roots, folded) > most:
        folded |= {view for view in order if depths[view] == deepest and view.following}
        deepest -= 1
    found: list[TreeStage] = []
    stack = [(view, 0) for view in reversed(roots)]
    while stack:
        view, depth = stack.pop()
        if len(found) == most - 1 and len(stack) > 0:
            rest = [view, *(entry[0] for entry in stack)]
            found.append(_rest(rest, sizes))
            break
        is_folded = view in folded and sizes[view] > 1
        found.append(_entry(view, depth, sizes[view] if is_folded else None))
        if not is_folded:
            stack += [(child, depth + 1) for child in reversed(view.following)]
    return found


def _count_entries(roots: list[StageView], folded: set[StageView]) -> int:
    count, stack = 0, list(roots)
    while stack:
        view = stack.pop()
        count += 1
        if view not in folded:
            stack += view.following
    return count


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
