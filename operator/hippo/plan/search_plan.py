"""The search plan: a trie of hyper-parameter sequences, with wants and results at their steps.

A node covers the steps ``(start, end]`` that all sequences below it share; siblings differ from
their first step on. Everything at a step (wants, checkpoints, metrics) belongs to the one node that
covers it and is addressed by the step's content key, so equal work is stored once, whichever trials
want it.

Inserting a sequence may split a node, even one that is being trained. The lower half keeps the
object, so the holder of a node finds the one that covers an earlier step by walking up
(:meth:`Node.at`).

Shin et al., "Hippo: Sharing Computations in Hyper-Parameter Optimization", PVLDB 15(5), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from hippo.lifecycles import InvariantViolated, StageEvent, advance
from hippo.model import Sequence
from hippo.plan.nodes import Checkpoint, Lead, Metrics, Node, TrialId, Want


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint in the store that no sequence of this plan reaches yet."""

    key: str
    step: int


class SearchPlan:
    """The trie of one trainer signature, with what the store already held for it."""

    def __init__(self, signature: str) -> None:
        self.signature = signature
        self._numbers = count()
        empty = Sequence.of({}, 1)
        self.root = Node(
            number=next(self._numbers),
            start=0,
            end=0,
            sequence=empty,
            signature=signature,
            parent=None,
        )
        self._stored_checkpoints: dict[str, StoredCheckpoint] = {}
        self._stored_metrics: dict[str, Metrics] = {}
        self._stored_steps: list[int] = []
        self.changed: set[Node] = set()  # nodes whose frontier must be derived again
        self.attached: list[Checkpoint] = []  # stored ones now reached; the owner drains it

    def recall(
        self, checkpoints: list[StoredCheckpoint], metrics: list[tuple[str, int, Metrics]]
    ) -> None:
        """Makes stored checkpoints and metrics usable for every sequence inserted from now on."""
        steps = set(self._stored_steps)
        for stored in checkpoints:
            self._stored_checkpoints[stored.key] = stored
            steps.add(stored.step)
        for key, step, values in metrics:
            self._stored_metrics[key] = values
            steps.add(step)
        self._stored_steps = sorted(steps)

    def insert(self, sequence: Sequence, *, apart: str = "", seed: int | None = None) -> Node:
        """Returns the node in which ``sequence`` ends, adding and splitting nodes as needed.

        The time is proportional to the nodes and runs on its path. ``apart`` keeps a sequence from
        merging with any other (trial-by-trial execution), and ``seed`` from merging with sequences
        of another seed: both change the signature from which keys are derived.
        """
        signature = f"{self.signature}/{apart}" if apart else self.signature
        if seed is not None:
            signature = f"{signature}/seed {seed}"
        node, position = self.root, 0
        while position < sequence.steps:
            first = sequence.key(position + 1, signature)
            child = node.children.get(first)
            if child is None:
                return self._add(node, first, sequence, signature, seed)
            agreed = min(child.sequence.agreement(sequence), child.end)
            if agreed < child.end:
                if agreed == sequence.steps:
                    return child
                child = self._split(child, first, agreed)
            elif not child.children and sequence.steps > child.end:
                begun = child.end
                child.sequence, child.end = sequence, sequence.steps
                self._attach_stored(child, begun)
                return child
            node, position = child, child.end
        return node

    def find(self, sequence: Sequence) -> tuple[Node, int]:
        """Returns the last node that agrees with this sequence and the step up to which it does.

        The node is the root for step 0. Changes nothing; takes as long as an insertion.
        """
        node, position = self.root, 0
        while position < sequence.steps:
            child = node.children.get(sequence.key(position + 1, self.signature))
            if child is None:
                break
            agreed = min(child.sequence.agreement(sequence), child.end)
            if agreed < child.end:
                return child, agreed
            node, position = child, child.end
        return node, position

    def has_in_store(self, sequence: Sequence, step: int) -> bool:
        """Whether the store held metrics at this step that no sequence of the plan has reached."""
        return sequence.key(step, self.signature) in self._stored_metrics

    def latest_in_store(self, sequence: Sequence, begun: int, end: int) -> int | None:
        """Returns the last step ``begun < t <= end`` whose unreached state the store held.

        Computes one key per distinct step that the store held. Returns None if there is none.
        """
        for step in reversed(self._stored_steps):
            if begun < step <= end and sequence.key(step, self.signature) in (
                self._stored_checkpoints
            ):
                return step
        return None

    def _add(
        self, parent: Node, first: str, sequence: Sequence, signature: str, seed: int | None
    ) -> Node:
        node = Node(
            number=next(self._numbers),
            start=parent.end,
            end=sequence.steps,
            sequence=sequence,
            signature=signature,
            seed=seed,
            parent=parent,
        )
        parent.children[first] = node
        self._attach_stored(node, parent.end)
        return node

    def _attach_stored(self, node: Node, begun: int) -> None:
        """Attaches to a node what the store holds for its steps after ``begun``."""
        for step in self._stored_steps:
            if begun < step <= node.end:
                key = node.key(step)
                if key in self._stored_checkpoints:
                    checkpoint = Checkpoint(key=key, step=step, node=node)
                    node.checkpoints[step] = checkpoint
                    self.attached.append(checkpoint)
                values = self._stored_metrics.get(key)
                if values is not None:
                    node.metrics[step] = values
                self.changed.add(node)

    def _split(self, lower: Node, first: str, step: int) -> Node:
        """Cuts ``lower`` after ``step`` and returns the new upper half."""
        parent = lower.parent
        if parent is None or not lower.start < step < lower.end:
            raise InvariantViolated(f"cannot split {lower!r} at {step}")
        upper = Node(
            number=next(self._numbers),
            start=lower.start,
            end=step,
            sequence=lower.sequence,
            signature=lower.signature,
            seed=lower.seed,
            parent=parent,
        )
        parent.children[first] = upper
        upper.children[lower.key(step + 1)] = lower
        lower.parent, lower.start = upper, step
        for name in ("wants", "marks", "checkpoints", "metrics", "holds"):
            everything: dict[int, object] = getattr(lower, name)
            # A hold belongs to the position that training starts from: `step` itself is below the
            # cut.
            above = {s: v for s, v in everything.items() if s <= step}
            if name == "holds":
                above = {s: v for s, v in everything.items() if s < step}
            setattr(upper, name, above)
            setattr(lower, name, {s: v for s, v in everything.items() if s not in above})
        for checkpoint in upper.checkpoints.values():
            checkpoint.node = upper
        upper.claims = [claim for claim in lower.claims if claim.start <= step]
        lower.claims = [claim for claim in lower.claims if claim.stop_at > step]
        if parent.demanding is not None:
            parent.demanding.remove(lower)
        if lower.leans:  # it was counted by its parent; the upper half is not known to lean yet
            parent.leaning_children -= 1
            upper.leaning_children = 1
        lower.demand = None
        self.changed.update((upper, lower, parent))
        return upper

    def want(self, node: Node, step: int, trial: TrialId, lead: Lead) -> Metrics | None:
        """Wants metrics at ``step`` on the way to ``node``; returns them if known, else None."""
        node = node.at(step)
        known = node.metrics.get(step)
        if known is not None:
            return known
        want = node.wants.get(step)
        if want is None:
            want = node.wants[step] = Want(step)
        want.trials[trial] = lead
        self.changed.add(node)
        return None

    def unwant(self, node: Node, step: int, trial: TrialId) -> None:
        """Withdraws a want of a trial; removes it if no other trial wants it."""
        node = node.at(step)
        want = node.wants.get(step)
        if want is not None:
            want.trials.pop(trial, None)
            if not want.trials:
                want.state = advance(want.state, StageEvent.WITHDRAWN)
                del node.wants[step]
            self.changed.add(node)

    def mark(self, node: Node, step: int, trial: TrialId) -> Metrics | None:
        """Asks for metrics at ``step`` if training passes there; returns them if they are known.

        A mark is no work of its own: no stage ends at it, nothing is stored or kept for it, and no
        step is trained only to reach it.
        """
        node = node.at(step)
        known = node.metrics.get(step)
        if known is None:
            node.marks.setdefault(step, set()).add(trial)
            self.changed.add(node)
        return known

    def unmark(self, node: Node, step: int, trial: TrialId) -> None:
        """Removes a mark of a trial."""
        node = node.at(step)
        trials = node.marks.get(step, set())
        trials.discard(trial)
        if not trials:
            node.marks.pop(step, None)

    def add_metrics(self, node: Node, step: int, metrics: Metrics) -> list[TrialId]:
        """Records metrics; returns the trials that waited for them."""
        node = node.at(step)
        node.metrics.setdefault(step, metrics)
        self.changed.add(node)
        waiting = node.marks.pop(step, set())
        want = node.wants.pop(step, None)
        if want is not None:
            want.state = advance(want.state, StageEvent.REPORTED)
            waiting.update(want.trials)
        return sorted(waiting)

    def give_up(self, node: Node, step: int) -> list[TrialId]:
        """Gives up on the metrics at ``step``; returns the trials that waited for them."""
        node = node.at(step)
        want = node.wants.pop(step)
        want.state = advance(want.state, StageEvent.FAILED)
        self.changed.add(node)
        return sorted(want.trials)

    def add_checkpoint(self, node: Node, step: int) -> Checkpoint:
        """Records a stored state; keeps an existing entry."""
        node = node.at(step)
        checkpoint = node.checkpoints.get(step)
        if checkpoint is None:
            checkpoint = Checkpoint(key=node.key(step), step=step, node=node)
            node.checkpoints[step] = checkpoint
            self._touch(node, step)
        return checkpoint

    def drop_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Forgets a state that is no longer stored."""
        node = checkpoint.node.at(checkpoint.step)
        if node.checkpoints.get(checkpoint.step) is checkpoint:
            del node.checkpoints[checkpoint.step]
            self._stored_checkpoints.pop(checkpoint.key, None)
            self._touch(node, checkpoint.step)

    def _touch(self, node: Node, step: int) -> None:
        self.changed.add(node)
        if step == node.end:
            self.changed.update(node.children.values())

    def nodes(self) -> Iterator[Node]:
        """Iterates over all nodes but the root, parents first."""
        nodes = self.root.below()
        next(nodes)
        yield from nodes
