"""Trials of an external study as its user sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, SupportsIndex


@dataclass(slots=True)
class TrialView:
    """What is known of a trial."""

    ticket: int
    hyperparameters: dict[str, Any]
    steps: int
    """The farthest that it was asked to go."""
    name: str | None = None
    """As in the study's results; None until the request was taken up."""
    phase: str = "Pending"
    """Pending, Paused (it has reported where it was asked to, and may be extended), Completed,
    Stopped, Failed, Diverged or Refused.
    """
    reason: str = ""
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    """By step; only the steps that were asked for."""
    refusals: list[str] = field(default_factory=list)
    """What became of requests to extend or stop it that could not be carried out."""

    @property
    def is_over(self) -> bool:
        return self.phase not in ("Pending", "Paused")


class AskTell(Protocol):
    """A tuner of yours, for :meth:`Client.drive`."""

    def ask(self) -> tuple[Mapping[str, Any] | SupportsIndex, SupportsIndex] | None:
        """What to train next, and up to which step: hyper-parameters for a new trial, or the ticket
        of one that is to go on. None: nothing before the next result; nothing at all if no result
        is awaited.
        """

    def tell(self, trial: TrialView, step: int, metrics: Mapping[str, float] | None) -> None:
        """A result, whose objective is finite; other metrics may be NaN.

        None: the trial has failed, diverged, or was refused (``trial.phase``, ``trial.reason``).
        """
