"""The contract between a user's training code and the runner.

A trainer is a pure function in disguise: what it holds after step t may depend on the config, the
seed, and the hyper-parameters at steps 0 to t - 1, and on nothing else. Then any worker may go on
from any checkpoint, and no trial can tell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

Value = Any
"""A hyper-parameter's value at one step: int (if integral), float, str, bool or a list of these."""


class Trainer(ABC):
    """What users subclass. One object serves one chain; the runner makes it without arguments.

    Python's, NumPy's and PyTorch's global random generators are seeded by the runner before
    the trainer's module is imported, before ``setup``, every ``step`` and every ``evaluate``.
    Other generators (``random.Random``, ``numpy.random.default_rng``) must be made anew in each
    step from the global ones, or be saved.
    """

    seed: int = 0
    """The study's ``trainer.seed``; set before ``setup``."""

    device: str = "cpu"
    """``cuda`` if there is a GPU and the trainer's module imports torch; set before ``setup``."""

    @abstractmethod
    def setup(self, config: Mapping[str, Any], hparams: Mapping[str, Value]) -> None:
        """Build model, optimizer and data, untrained. Called once, first.

        ``hparams`` holds the values at step 0 of the sequence, also when a checkpoint is loaded
        next.
        """

    @abstractmethod
    def step(self, hparams: Mapping[str, Value]) -> Mapping[str, float] | None:
        """Train one step with the values now in force.

        Metrics returned here go to the worker's log, about once a second (``hippo logs``). They are
        not kept otherwise, and no decision depends on them.
        """

    @abstractmethod
    def evaluate(self) -> Mapping[str, float]:
        """Metrics by name; NaN and infinities are allowed and mean that the trial diverged.

        Must leave training as it was: the same trainer may go on with the next step.
        """

    @abstractmethod
    def state_dict(self) -> Any:
        """All that training depends on: plain data, arrays, tensors. It may alias live ones."""

    @abstractmethod
    def load_state_dict(self, state: Any) -> None:
        """Become what the trainer was that returned ``state`` (tensors are on the CPU)."""
