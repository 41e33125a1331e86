"""What the witness and the store say about a study that was disturbed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.witness import Step


@dataclass(frozen=True, slots=True)
class Work:
    """Of one study. Steps are told apart by what was trained to get there."""

    trained: int
    unique: int
    unsaved: int
    """Trained by workers that died, after their last checkpoint."""
    unexplained: tuple[str, ...]
    """One line for each step that was trained again although a checkpoint held it."""
    longest_pause: float
    """Seconds without a step, between the first and the last."""

    @property
    def again(self) -> int:
        """Steps that were trained once more."""
        return self.trained - self.unique


def weigh(
    steps: Sequence[Step], saved: Mapping[str, Iterable[int]], *, spoilt: Iterable[str] = ()
) -> Work:
    """``saved``: by worker, the steps at which it has stored a checkpoint. ``spoilt``: workers of
    which checkpoints were damaged, so that what they held may be trained again.

    A worker goes on only forward, so what it trained up to its last checkpoint is held by it, or by
    the one that it began from.
    """
    held = {worker: max(numbers, default=0) for worker, numbers in saved.items()}
    held |= dict.fromkeys(spoilt, 0)
    by_content: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_content[step.after].append(step)
    unexplained = []
    for instances in by_content.values():
        for earlier, later in pairwise(instances):
            if earlier.number <= held.get(earlier.worker, 0):
                unexplained.append(
                    f"step {earlier.number} of {earlier.worker} was saved, and trained again by"
                    f" {later.worker}"
                )
    moments = sorted(step.at for step in steps)
    return Work(
        trained=len(steps),
        unique=len(by_content),
        unsaved=sum(1 for step in steps if step.number > held.get(step.worker, 0)),
        unexplained=tuple(unexplained),
        longest_pause=max(
            (later - earlier for earlier, later in pairwise(moments)),
            default=0.0,
        ),
    )
