"""The interface between a user's training code and the runner.

A trainer must behave like a pure function: its state after step t may depend only on the config,
the seed, and the hyper-parameters at steps 0 to t - 1. Then any worker can continue from any
checkpoint with identical results.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

Value = Any
"""A hyper-parameter's value at one step: int (if integral), float, str, bool or a list of these."""


class Trainer(ABC):
    """Base class of users' trainers. The runner constructs one object per chain, without arguments.

    The runner seeds the global random generators of Python, NumPy and PyTorch before it imports the
    trainer's module, before ``setup``, every ``step`` and every ``evaluate``. Other generators
    (``random.Random``, ``numpy.random.default_rng``) must be created in each step from the global
    ones, or be saved in ``state_dict``.

    An exception from any method fails the chain, which is retried from its last checkpoint.
    """

    seed: int = 0
    """The study's ``spec.trainer.seed``; set before ``setup``."""

    device: str = "cpu"
    """``cuda`` if there is a GPU and the trainer's module imports torch; set before ``setup``."""

    @abstractmethod
    def setup(self, config: Mapping[str, Any], hparams: Mapping[str, Value]) -> None:
        """Build model, optimizer and data, untrained. Called once, before any other method.

        ``config`` is ``spec.trainer.config``. ``hparams`` holds the sequence's values at step 0,
        even if a checkpoint is loaded next.
        """

    @abstractmethod
    def step(self, hparams: Mapping[str, Value]) -> Mapping[str, float] | None:
        """Train one step with the current hyper-parameter values.

        Returned metrics go to the worker's log, about once a second (``hippo logs``). They are kept
        nowhere else, and no decision depends on them.
        """

    @abstractmethod
    def evaluate(self) -> Mapping[str, float]:
        """Return metrics by name: at most 1,000 numbers, with names of at most 256 characters.

        NaN and infinities are allowed and mean that the trial diverged. Must not change the
        training state: the same trainer may continue with the next step.
        """

    @abstractmethod
    def state_dict(self) -> Any:
        """Return everything that training depends on: plain data, arrays and tensors.

        The result may alias live tensors; the runner copies it. Must change nothing.
        """

    @abstractmethod
    def load_state_dict(self, state: Any) -> None:
        """Restore the trainer that returned ``state``; its tensors are on the CPU.

        Afterwards the runner compares ``state_dict()`` with ``state``, and fails if they differ.
        """
