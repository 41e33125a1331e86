"""Who trains what, held against what the operator promises.

*One pod for each stage*: no pod trains a step that lies on another's way, between where that one
stands and where it is to stop. Not counted are trainers that the cluster has lost sight of (their
node is lost, or their pod was removed by force), and pods that were told to leave: these end at the
next step. *No step twice*: no chain begins before a checkpoint that its way leads through, and was
reported; and as long as no state was let go that another study, or a trial of a user's, comes to
need later (``is_strict``), a step is trained again only if it was lost with its worker since that
one's last checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from hippo.model import Sequence
from hippo.store.records import Assignment, Route
from tests.model_checking.workers import Worker


class Training:
    def __init__(self) -> None:
        self.trained: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()  # steps that may be trained once more
        self.again = 0  # steps trained again, for whatever reason
        self.is_strict = True
        self.problems: list[str] = []
        self._reported: set[str] = set()  # checkpoints that a pod in sight has reported

    def launched(self, assignment: Assignment, stored: Collection[str]) -> None:
        """A pod is created; ``stored``: keys of the checkpoints there are."""
        ahead = _keys(assignment.route, assignment.start, assignment.signature)
        skipped = [key for key in ahead if key in stored and key in self._reported]
        if skipped:
            self.problems.append(
                f"{assignment.chain} begins at {assignment.start}, before {skipped}, which is there"
            )

    def reported(self, key: str) -> None:
        self._reported.add(key)

    def stepped(self, worker: Worker, key: str, others: Iterable[Worker]) -> None:
        """``others``: those that are in sight, and were not told to leave."""
        chain = worker.assignment.chain
        for other in others:
            a = other.assignment
            if other is not worker and key in _keys(other.route, other.step, a.signature):
                self.problems.append(f"{chain} trains {key}, and {a.chain} is to train it too")
        self.trained[key] += 1
        if self.trained[key] == 1:
            return
        self.again += 1
        if self.lost[key] <= 0 and self.is_strict:
            self.problems.append(f"{chain} trains again what is not lost: {key}")
        self.lost[key] -= 1


def _keys(route: Route, start: int, signature: str) -> list[str]:
    """Of the steps that the route still leads through."""
    sequence = Sequence.of(route.hyperparameters, route.steps)
    return [sequence.key(step, signature) for step in range(start + 1, route.stop_at + 1)]
