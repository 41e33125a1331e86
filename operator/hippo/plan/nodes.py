"""Nodes of the search plan, with the wants, checkpoints, claims and demands at their steps.

The types refer to each other: a node holds the claims of chains that pass it and the demands of its
children, and claims and demands refer to nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hippo.lifecycles import StageState
from hippo.model import Sequence

Metrics = Mapping[str, float]
TrialId = tuple[str, int]
"""Name of the study, and index of the trial within it."""

Lead = tuple[int, int, str]
"""Priority, negated order of arrival, and name of a study; the greatest goes first."""

NO_WORK = -(2**62)
"""Priority of a suspended study: its wants remain, but no worker is started for them."""

Order = tuple[float, float, int, int]
"""Sort key of heads; see :attr:`Head.order`."""


@dataclass(slots=True, eq=False)
class Checkpoint:
    """A stored state. ``pins`` are reasons to keep it besides the requests that depend on it."""

    key: str
    step: int
    node: Node
    pins: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Want:
    """Unknown metrics at one step, with the trials that want them."""

    step: int
    trials: dict[TrialId, Lead] = field(default_factory=dict)
    state: StageState = StageState.PENDING

    @property
    def leads(self) -> frozenset[Lead]:
        return frozenset(self.trials.values())

    @property
    def lead(self) -> Lead:
        return max(self.trials.values())


class Node:
    """The steps ``(start, end]`` shared by all sequences below it.

    Owned by a :class:`SearchPlan`.
    """

    __slots__ = (
        "checkpoints",
        "children",
        "claims",
        "demand",
        "demanding",
        "end",
        "heads",
        "holds",
        "leaning_children",
        "leans",
        "marks",
        "metrics",
        "number",
        "parent",
        "seed",
        "sequence",
        "signature",
        "start",
        "wants",
    )

    def __init__(
        self,
        *,
        number: int,
        start: int,
        end: int,
        sequence: Sequence,
        signature: str,
        seed: int | None = None,
        parent: Node | None,
    ) -> None:
        self.number = number
        self.start = start
        self.end = end
        self.sequence = sequence
        self.signature = signature
        self.seed = seed  # of a replicate; None: the trainer's own
        self.parent = parent
        self.children: dict[str, Node] = {}
        self.wants: dict[int, Want] = {}
        self.marks: dict[int, set[TrialId]] = {}
        self.checkpoints: dict[int, Checkpoint] = {}
        self.metrics: dict[int, Metrics] = {}
        # The rest is derived by the frontier, and rebuilt whenever something above changes.
        self.claims: list[Claim] = []
        self.holds: dict[int, float] = {}
        self.heads: list[Head] = []
        self.demand: Demand | None = None
        self.demanding: StrongestTwo | None = None
        self.leans = False
        self.leaning_children = 0

    def key(self, step: int) -> str:
        """Returns the content key of a step up to this node's end."""
        return self.sequence.key(step, self.signature)

    def at(self, step: int) -> Node:
        """Returns the node that covers ``step``, this one or an ancestor (the root for step 0)."""
        node = self
        while step <= node.start and node.parent is not None:
            node = node.parent
        return node

    def forks_at(self, step: int) -> bool:
        """Whether sequences of the plan diverge after ``step``."""
        return step == self.end and len(self.children) > 1

    def path(self) -> list[Node]:
        """Returns the nodes from just below the root down to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def below(self) -> Iterator[Node]:
        """Iterates over this node and all its descendants, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children.values()))

    def latest_checkpoint(self, step: int) -> Checkpoint | None:
        """Returns the last stored state at or before ``step``; None means to train from step 0."""
        node: Node | None = self.at(step)
        while node is not None:
            best = max((s for s in node.checkpoints if s <= step), default=None)
            if best is not None:
                return node.checkpoints[best]
            node = node.parent
        return None

    def __repr__(self) -> str:
        return f"Node({self.number}: ({self.start}, {self.end}], wants {sorted(self.wants)})"


@dataclass(slots=True, eq=False)
class Claim:
    """A running chain's promises: the steps ``(start, stop_at]`` on the way to ``node``, with
    evaluations and saves among them.

    Promised work is not given to other chains. A promise ends when the chain fulfils or refuses it,
    or ends.

    ``asked_*`` are promises that the chain has been or will be asked for and has not confirmed.
    They count as promised until the chain refuses.
    """

    name: str
    node: Node  # covers stop_at, or did before later splits; see Node.at
    start: int
    stop_at: int
    evaluate_at: set[int]
    save_at: set[int]
    position: int = 0  # the last step end that it is known to have passed
    asked_evaluate: set[int] = field(default_factory=set)
    asked_save: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    open_to_more: bool = True  # False once it was told to stop

    def promises_metrics(self, step: int) -> bool:
        return step in self.evaluate_at or step in self.asked_evaluate

    def promises_state(self, step: int) -> bool:
        return step == self.stop_at or step in self.save_at or step in self.asked_save

    def saves(self) -> set[int]:
        """Returns all steps at which it will save a checkpoint."""
        return self.save_at | self.asked_save | {self.stop_at}

    def can_be_asked(self, step: int) -> bool:
        """Whether the chain may still be able to evaluate or save at ``step``."""
        return (
            self.open_to_more
            and max(self.start, self.position) < step <= self.stop_at
            and step not in self.refused
        )

    def nodes(self) -> list[Node]:
        """Returns the nodes it covers, deepest first, including the node it starts from, where its
        first act may be an evaluation.

        The result does not change before the claim is released.
        """
        found: list[Node] = []
        node: Node | None = self.node.at(self.stop_at)
        while node is not None and node.parent is not None and node.end >= self.start:
            found.append(node)
            node = node.parent
        return found


@dataclass(frozen=True, slots=True)
class Demand:
    """Work from some position on, in seconds: its critical path (level) and its total (work)."""

    level: float
    work: float
    leads: frozenset[Lead]  # of all studies that need part of it
    steps: tuple[int, ...]  # wants in the node itself, ascending
    forks: bool  # children wait for the state at the node's end

    @property
    def studies(self) -> frozenset[str]:
        """The studies that need part of it, except suspended ones."""
        return frozenset(study for priority, _, study in self.leads if priority > NO_WORK)


@dataclass(slots=True, eq=False)
class Head:
    """A place to start: ``node`` from step ``start``, whose state is stored (or step 0)."""

    node: Node
    start: int
    demand: Demand
    alive: bool = True

    @property
    def order(self) -> Order:
        """Ascending sort key: the longest path, then the most work, then the oldest."""
        demand = self.demand
        return (-demand.level, -demand.work, self.node.number, self.start)


class StrongestTwo:
    """The demands of a node's children; keeps track of the two longest.

    Adding or raising a demand is O(1); only losing or lowering one of the two takes a pass over
    all.
    """

    __slots__ = ("_first", "_second", "demands", "work")

    def __init__(self) -> None:
        self.demands: dict[Node, Demand] = {}
        self.work = 0.0
        self._first: Node | None = None
        self._second: Node | None = None

    def put(self, child: Node, demand: Demand) -> None:
        self.remove(child)
        self.demands[child] = demand
        self.work += demand.work
        if self._first is None or self._rank(child) < self._rank(self._first):
            self._first, self._second = child, self._first
        elif self._second is None or self._rank(child) < self._rank(self._second):
            self._second = child

    def remove(self, child: Node) -> None:
        demand = self.demands.pop(child, None)
        if demand is None:
            return
        self.work = self.work - demand.work if self.demands else 0.0
        if child is self._first or child is self._second:
            best = heapq.nsmallest(2, self.demands, key=self._rank)
            self._first = best[0] if best else None
            self._second = best[1] if len(best) > 1 else None

    def _rank(self, child: Node) -> tuple[float, float, int]:
        demand = self.demands[child]
        return (-demand.level, -demand.work, child.number)

    @property
    def kept(self) -> Node:
        """The child in which a chain continues: the greatest level, then the most work below."""
        assert self._first is not None
        return self._first

    def level(self, switch: float) -> float:
        level = self.demands[self.kept].level
        if self._second is not None:
            level = max(level, self.demands[self._second].level + switch)
        return level

    @property
    def leads(self) -> frozenset[Lead]:
        return frozenset().union(*(demand.leads for demand in self.demands.values()))
