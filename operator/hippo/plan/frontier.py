"""The frontier: work that can begin now, the lengths of the paths behind it, and their order.

The stage tree is a function of the plan: unfulfilled wants, stored checkpoints, and promises of
running chains. Rebuilding it at every event would take time proportional to the plan. This module
instead keeps, per node, what changes with that node, and derives it again for changed nodes and
their ancestors up to the next checkpoint. ``stage_tree.py`` builds the same from scratch; tests
compare the two.

Terms. A *position* is step 0, or a step whose state is stored or promised by a running chain. Each
want that no chain has promised depends on the last position before it. If that is stored, the want
belongs to a *head*, a place where a worker can start now; if it is promised, the want waits; if the
node has none, the want is part of the node's *demand*, which is passed to the parent.

Levels (least laxity): ``h = length + save + max(h of the child kept, h of the other children +
start + load)``, in estimated seconds, evaluations included.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from hippo.lifecycles import StageEvent, StageState, advance
from hippo.plan.costs import CostModel
from hippo.plan.nodes import NO_WORK, Claim, Demand, Head, Lead, Node, Order, StrongestTwo
from hippo.plan.search_plan import SearchPlan

Turn = tuple[float, ...]
"""A study's place in line; the study with the least turn gets the next worker."""


@dataclass(slots=True, eq=False)
class Pool:
    """The heads that the same set of studies needs."""

    studies: frozenset[str]
    names: tuple[str, ...]  # the same studies, sorted
    work: float = 0.0
    count: int = 0
    _heap: list[tuple[Order, int, Head]] = field(default_factory=list)

    def add(self, head: Head, number: int) -> None:
        self.work += head.demand.work
        self.count += 1
        heapq.heappush(self._heap, (head.order, number, head))

    def retire(self, head: Head) -> None:
        self.count -= 1
        self.work = self.work - head.demand.work if self.count else 0.0

    @property
    def best(self) -> Head:
        """The head of the longest path."""
        while not self._heap[0][2].alive:
            heapq.heappop(self._heap)
        return self._heap[0][2]


@dataclass(slots=True)
class Frontier:
    """Maintains the heads, levels and promises of a plan.

    Call :meth:`refresh` after every change.
    """

    plan: SearchPlan
    costs: CostModel
    ready: dict[tuple[int, int], Head] = field(default_factory=dict)
    ready_work: float = 0.0
    ready_of: Counter[str] = field(default_factory=Counter)  # heads by study
    to_steer: set[Claim] = field(default_factory=set)  # their chains must be asked for new promises
    touched: set[Node] = field(default_factory=set)  # derived again since the last clean-up
    unsettled: set[Claim] = field(default_factory=set)  # their remaining work may have changed
    moved: set[Claim] = field(default_factory=set)  # their studies may have changed
    pools: dict[frozenset[str], Pool] = field(default_factory=dict)  # by set of studies
    _added: count[int] = field(default_factory=count)

    def refresh(self, now: float) -> None:
        """Derives the changed nodes again, deepest first, and the ancestors that this affects."""
        changed = self.plan.changed
        queue = [(-node.start, node.number, node) for node in changed]
        heapq.heapify(queue)
        queued = {node.number for node in changed}
        changed.clear()
        while queue:
            _, number, node = heapq.heappop(queue)
            queued.discard(number)
            if node.parent is None:
                continue
            for again in self._derive(node, now):
                if again.number not in queued:
                    queued.add(again.number)
                    heapq.heappush(queue, (-again.start, again.number, again))

    def relevel(self) -> None:
        """Marks all wanted nodes to be derived again, because estimates have moved."""
        for node in self.plan.nodes():
            self.unsettled.update(node.claims)
            if node.wants or node.demanding is not None:
                self.plan.changed.add(node)

    def best(
        self,
        turn: Callable[[str], Turn | None],
        weigh: Callable[[Pool], tuple[float, ...]] = lambda pool: (),
    ) -> tuple[Head, str] | None:
        """Returns the head to start next and the study that lends the worker for it, or None.

        The study with the least ``turn`` comes first; a turn of None excludes a study. Among equal
        turns, the pool with the least ``weigh`` comes first, then the longest path.
        """
        best: tuple[Turn, tuple[float, ...], Order, Head, str] | None = None
        turns: dict[str, Turn | None] = {}
        for pool in self.pools.values():
            head, weight = pool.best, weigh(pool)
            order = head.order
            for study in pool.names:
                if study not in turns:
                    turns[study] = turn(study)
                place = turns[study]
                if place is not None and (best is None or (place, weight, order) < best[:3]):
                    best = (place, weight, order, head, study)
        return best[3:] if best is not None else None

    def claim(self, claim: Claim) -> None:
        """Adds the promises of a chain that was launched or rerouted."""
        for node in claim.nodes():
            if claim not in node.claims:
                node.claims.append(claim)
            self.plan.changed.add(node)

    def release(self, claim: Claim) -> None:
        """Removes the promises of a chain that has ended or is about to be rerouted."""
        for node in claim.nodes():
            if claim in node.claims:
                node.claims.remove(claim)
            self.plan.changed.add(node)
            self.plan.changed.update(node.children.values())
        self.to_steer.discard(claim)
        self.unsettled.discard(claim)
        self.moved.discard(claim)

    def route_of(self, head: Head) -> tuple[Node, int, set[int], set[int]]:
        """Returns the chain from a head: (node of its end, stop_at, evaluations, saves).

        At a fork it continues in the child with the longest path; the others start from its
        checkpoint.
        """
        node, demand = head.node, head.demand
        evaluations: set[int] = set(demand.steps)
        saves: set[int] = set(demand.steps)
        while demand.forks:
            assert node.demanding is not None
            saves.add(node.end)
            node = node.demanding.kept
            assert node.demand is not None
            demand = node.demand
            evaluations.update(demand.steps)
            saves.update(demand.steps)
        stop_at = max(saves)
        for passed in node.path():
            evaluations.update(step for step in passed.marks if head.start <= step <= stop_at)
        return node, stop_at, evaluations, saves

    def remaining(self, claim: Claim, position: int) -> float:
        """Returns the estimated seconds on a running chain's critical path beyond ``position``."""
        node = claim.node.at(claim.stop_at)
        level = 0.0
        switch = self.costs.switch
        end = claim.stop_at
        save, evaluate = self.costs.overheads.save, self.costs.overheads.evaluate
        while True:
            begun = max(position, node.start)
            level += self.costs.seconds(node.sequence, begun, max(begun, end))
            level += evaluate * sum(1 for step in claim.evaluate_at if begun < step <= end)
            level += save
            if node.start <= position or node.parent is None or node.parent.parent is None:
                return level
            node = node.parent
            end = node.end
            if node.demanding is not None and node.demanding.demands:
                level = max(level, node.demanding.level(switch) + switch)

    # -- one node ----------------------------------------------------------------------------------

    def _derive(self, node: Node, now: float) -> list[Node]:
        """Derives one node again; returns the nodes that must be derived again as a consequence."""
        again: list[Node] = []
        self.touched.add(node)
        self.unsettled.update(node.claims)
        self.moved.update(node.claims)
        needs = self._unpromised(node)
        self._ask_for_marks(node)
        forks = self._fork_is_needed(node)
        positions = sorted(set(node.checkpoints) | self._promised_positions(node))
        groups: dict[int | None, list[int]] = {}
        for step in needs:
            groups.setdefault(_last_position(positions, step), []).append(step)
        fork_position = _last_position(positions, node.end) if forks else None
        if forks:
            groups.setdefault(fork_position, [])
        self._retire_heads(node)
        demand: Demand | None = None
        for position, steps in groups.items():
            with_forks = forks and position == fork_position
            if position is not None and position not in node.checkpoints:
                continue  # its owner will save it first
            found = self._demand(
                node, node.start if position is None else position, steps, with_forks
            )
            if position is None:
                demand = found
            else:
                self._add_head(node, position, found, now)
        parent = node.parent
        assert parent is not None
        if demand is not None and self._is_stored(parent):
            self._add_head(node, node.start, demand, now)
        is_counted = parent.demanding is not None and node in parent.demanding.demands
        if parent.parent is not None and (demand != node.demand or is_counted != bool(demand)):
            parent.demanding = parent.demanding or StrongestTwo()
            if demand is None:
                parent.demanding.remove(node)
            else:
                parent.demanding.put(node, demand)
            again.append(parent)
        node.demand = demand
        leans = self._leans(node)
        if leans != node.leans:
            node.leans = leans
            parent.leaning_children += 1 if leans else -1
            again.append(parent)
        return again

    def _unpromised(self, node: Node) -> list[int]:
        """Returns the node's wants that no running chain will fulfil, after asking chains that can.

        Wants of suspended studies only are left out: they are fulfilled only if others train them.
        """
        needs: list[int] = []
        for step in sorted(node.wants):
            want = node.wants[step]
            owner = next((claim for claim in node.claims if claim.promises_metrics(step)), None)
            if owner is None:
                owner = next((claim for claim in node.claims if claim.can_be_asked(step)), None)
                if owner is not None:
                    owner.asked_evaluate.add(step)
                    owner.asked_save.add(step)
                    self.to_steer.add(owner)
            if owner is None:
                if want.lead[0] > NO_WORK:
                    needs.append(step)
                if want.state is StageState.RUNNING:
                    want.state = advance(want.state, StageEvent.RETURNED)
            elif want.state is StageState.PENDING:
                want.state = advance(want.state, StageEvent.PROMISED)
        return needs

    def _ask_for_marks(self, node: Node) -> None:
        """Asks chains that will pass a mark to report metrics there."""
        for step in node.marks:
            if not any(claim.promises_metrics(step) for claim in node.claims):
                passing = next((claim for claim in node.claims if claim.can_be_asked(step)), None)
                if passing is not None:
                    passing.asked_evaluate.add(step)
                    self.to_steer.add(passing)

    def _fork_is_needed(self, node: Node) -> bool:
        """Whether children need the state at the node's end and no chain has promised it."""
        if node.demanding is None or not node.demanding.demands or node.end in node.checkpoints:
            return False
        if any(claim.promises_state(node.end) for claim in node.claims):
            return False
        for claim in node.claims:
            if claim.can_be_asked(node.end):
                claim.asked_save.add(node.end)
                self.to_steer.add(claim)
                return False
        return True

    @staticmethod
    def _promised_positions(node: Node) -> set[int]:
        return {
            step for claim in node.claims for step in claim.saves() if node.start < step <= node.end
        }

    @staticmethod
    def _is_stored(parent: Node) -> bool:
        return parent.parent is None or parent.end in parent.checkpoints

    @staticmethod
    def _leans(node: Node) -> bool:
        """Whether an unfulfilled want at or below the node depends on a state above it."""
        first = min(node.checkpoints, default=None)
        if first is None:
            return bool(node.wants) or node.leaning_children > 0
        return any(step < first for step in node.wants)

    def _demand(self, node: Node, start: int, steps: list[int], forks: bool) -> Demand:
        costs = self.costs
        level = costs.seconds(node.sequence, start, node.end if forks else steps[-1])
        level += costs.overheads.evaluate * len(steps) + costs.overheads.save
        work = level
        leads = [node.wants[step].leads for step in steps]
        if forks:
            demanding = node.demanding
            assert demanding is not None
            level += demanding.level(costs.switch)
            work += demanding.work + (len(demanding.demands) - 1) * costs.switch
            leads.append(demanding.leads)
        everyone = frozenset[Lead]().union(*leads)
        return Demand(level=level, work=work, leads=everyone, steps=tuple(steps), forks=forks)

    def _add_head(self, node: Node, start: int, demand: Demand, now: float) -> None:
        if node.holds.get(start, now) > now:
            return  # it failed recently; the owner marks the node when its back-off ends
        head = Head(node, start, demand)
        node.heads.append(head)
        self.ready[(node.number, start)] = head
        self.ready_work += demand.work
        studies = demand.studies
        pool = self.pools.get(studies)
        if pool is None:
            pool = self.pools[studies] = Pool(studies, tuple(sorted(studies)))
        pool.add(head, next(self._added))
        for study in studies:
            self.ready_of[study] += 1

    def _retire_heads(self, node: Node) -> None:
        for head in node.heads:
            head.alive = False
            if self.ready.get((node.number, head.start)) is head:
                del self.ready[(node.number, head.start)]
                studies = head.demand.studies
                pool = self.pools[studies]
                pool.retire(head)
                if not pool.count:
                    del self.pools[studies]
                for study in studies:
                    self.ready_of[study] -= 1
            self.ready_work = self.ready_work - head.demand.work if self.ready else 0.0
        node.heads.clear()


def _last_position(positions: list[int], step: int) -> int | None:
    """Returns the last of the ascending positions at or before ``step``, or None."""
    for position in reversed(positions):
        if position <= step:
            return position
    return None
