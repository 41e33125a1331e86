"""What a running chain has promised: the steps it covers, and what it leaves on the way.

Work that is promised is not given to anybody else. A promise ends when it is kept, when the chain
refuses it, or when the chain ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hippo.plan.search_plan import Node


@dataclass(slots=True, eq=False)
class Claim:
    """The steps ``(start, stop_at]`` on the way to ``node``, and evaluations and saves among them.

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
        """The nodes it covers, the deepest first; with the one it starts from, where its first act
        may be an evaluation. Depends on nothing that changes before the claim is released.
        """
        found: list[Node] = []
        node: Node | None = self.node.at(self.stop_at)
        while node is not None and node.parent is not None and node.end >= self.start:
            found.append(node)
            node = node.parent
        return found
