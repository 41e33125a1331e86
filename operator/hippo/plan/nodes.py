"""Nodes of the search plan, and all that lies at their steps: wants, checkpoints, claims, demands.

The types refer to each other: a node holds the claims of chains that pass it and the demands of its
children, and claims and demands name nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hippo.lifecycles import StageState
from hippo.model import Sequence

Metrics = Mapping[str, float]
TrialId = tuple[str, int]
"""Study name and index of the trial within it."""

Lead = tuple[int, int, str]
"""Priority, minus the order of arrival, and name of a study: the greatest goes first."""

NO_WORK = -(2**62)
"""The priority of a study that is suspended: its wants stand, and nobody is to work for them."""

Order = tuple[float, float, int, int]
"""Of heads: see :attr:`Head.order`."""


@dataclass(slots=True, eq=False)
class Checkpoint:
    """A stored state. ``pins`` are reasons to keep it beside the requests that lean on it."""

    key: str
    step: int
    node: Node
    pins: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Want:
    """Metrics at one step, wanted by these trials and not known yet."""

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
    """The steps ``(start, end]`` of every sequence below it. Owned by a :class:`SearchPlan`."""

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
        self.seed = seed  # of a replicate's training; None: the trainer's own
        self.parent = parent
        self.children: dict[str, Node] = {}
        self.wants: dict[int, Want] = {}
        self.marks: dict[int, set[TrialId]] = {}
        self.checkpoints: dict[int, Checkpoint] = {}
        self.metrics: dict[int, Metrics] = {}
        # The rest is the frontier's: derived, and rebuilt whenever something above changes.
        self.claims: list[Claim] = []
        self.holds: dict[int, float] = {}
        self.heads: list[Head] = []
        self.demand: Demand | None = None
        self.demanding: StrongestTwo | None = None
        self.leans = False
        self.leaning_children = 0

    def key(self, step: int) -> str:
        """The content key of a step on the way to this node's end."""
        return self.sequence.key(step, self.signature)

    def at(self, step: int) -> Node:
        """The node that covers ``step``, this one or an ancestor (``step`` 0: the root)."""
        node = self
        while step <= node.start and node.parent is not None:
            node = node.parent
        return node

    def forks_at(self, step: int) -> bool:
        """Whether sequences of the plan part after ``step``."""
        return step == self.end and len(self.children) > 1

    def path(self) -> list[Node]:
        """From just below the root to this node."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def below(self) -> Iterator[Node]:
        """This node and all its descendants, parents first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children.values()))

    def latest_checkpoint(self, step: int) -> Checkpoint | None:
        """The last stored state at or before ``step`` on the way here; None: train from 0."""
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
    """What a running chain has promised: the steps ``(start, stop_at]`` on the way to ``node``, and
    evaluations and saves among them.

    Work that is promised is not given to anybody else. A promise ends when the chain keeps or
    refuses it, or ends.

    ``asked_*`` are promises that the chain has been, or is to be, asked for and has not confirmed:
    they count as promised until it refuses.
    """

    name: str
    node: Node  # covers stop_at, or did before later splits: see Node.at
    start: int
    stop_at: int
    evaluate_at: set[int]
    save_at: set[int]
    position: int = 0  # the last step end that is known to be behind it
    asked_evaluate: set[int] = field(default_factory=set)
    asked_save: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    open_to_more: bool = True  # False once it was told to stop

    def promises_metrics(self, step: int) -> bool:
        return step in self.evaluate_at or step in self.asked_evaluate

    def promises_state(self, step: int) -> bool:
        return step == self.stop_at or step in self.save_at or step in self.asked_save

    def saves(self) -> set[int]:
        """Every step at which a checkpoint is to come."""
        return self.save_at | self.asked_save | {self.stop_at}

    def can_be_asked(self, step: int) -> bool:
        """Whether the chain may still be able to leave something at ``step``."""
        return (
            self.open_to_more
            and max(self.start, self.position) < step <= self.stop_at
            and step not in self.refused
        )

    def nodes(self) -> list[Node]:
        """The nodes it covers, the deepest first, including the node it starts from: its first act
        may be an evaluation there. The result does not change before the claim is released.
        """
        found: list[Node] = []
        node: Node | None = self.node.at(self.stop_at)
        while node is not None and node.parent is not None and node.end >= self.start:
            found.append(node)
            node = node.parent
        return found


@dataclass(frozen=True, slots=True)
class Demand:
    """Work from some position on, in seconds: its critical path and its sum."""

    level: float
    work: float
    leads: frozenset[Lead]  # of all studies that ask for some of it
    steps: tuple[int, ...]  # wants in the node itself, ascending
    forks: bool  # children wait for the state at the node's end

    @property
    def studies(self) -> frozenset[str]:
        """The studies that ask for some of it, except suspended ones."""
        return frozenset(study for priority, _, study in self.leads if priority > NO_WORK)


@dataclass(slots=True, eq=False)
class Head:
    """A place to start: ``node`` from step ``start``, whose state is stored (or empty)."""

    node: Node
    start: int
    demand: Demand
    alive: bool = True

    @property
    def order(self) -> Order:
        """Ascending: the longest path, the most work, the oldest."""
        demand = self.demand
        return (-demand.level, -demand.work, self.node.number, self.start)


class StrongestTwo:
    """The demands of a node's children; the two longest are known without a search.

    Adding or raising one is O(1); only losing or lowering one of the two costs a pass over all.
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
        """The child in which a chain goes on: the greatest level, ties by most work below."""
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
