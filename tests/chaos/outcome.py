"""What came of one disturbed study: a row of the table, and all that is wrong with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """Of one run of one fault. Times in seconds."""

    place: str
    """Where it ran: cluster or local."""
    fault: str
    injected: int = 0
    trained: int = 0
    """Steps that trainers were seen to train."""
    again: int = 0
    """Of them, trained once more: their state had gone with their worker."""
    unsaved: int = 0
    """Steps of workers that died, after their last checkpoints: the most that ``again`` may be."""
    longest_pause: float = 0.0
    """Between two steps, whoever trained them."""
    makespan: float = 0.0
    problems: list[str] = field(default_factory=list)

    def note(self, is_right: object, problem: str) -> None:
        if not is_right:
            self.problems.append(problem)

    def document(self) -> Document:
        return asdict(self)
