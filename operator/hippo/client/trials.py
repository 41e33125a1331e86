"""Trials of an external study, as the client shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, SupportsIndex


@dataclass(slots=True)
class TrialView:
    """The known state of a trial."""

    ticket: int
    hyperparameters: dict[str, Any]
    steps: int
    """The last step up to which it was requested to train."""
    name: str | None = None
    """Its name in the study's results; None until the study has accepted the request."""
    phase: str = "Pending"
    """Pending, Paused (it has reported at ``steps``, and may be extended), Completed,
    Stopped, Failed, Diverged or Refused.
    """
    reason: str = ""
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    """Metrics by step, then by name; only at requested steps."""
    refusals: list[str] = field(default_factory=list)
    """Reasons for which requests to extend or stop it were refused."""

    @property
    def is_over(self) -> bool:
        return self.phase not in ("Pending", "Paused")


class AskTell(Protocol):
    """The interface of your tuner for :meth:`Client.drive`."""

    def ask(self) -> tuple[Mapping[str, Any] | SupportsIndex, SupportsIndex] | None:
        """Return what to train next, and up to which step: hyper-parameters for a new trial, or
        the ticket of one to extend. None: nothing before the next result, or nothing at all if
        no result is pending.
        """

    def tell(self, trial: TrialView, step: int, metrics: Mapping[str, float] | None) -> None:
        """Receive a result. Its objective is finite; other metrics may be NaN.

        ``metrics`` is None if the trial failed, diverged, or was refused (``trial.phase``,
        ``trial.reason``).
        """
