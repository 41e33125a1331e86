"""Minimal records for tests."""

from __future__ import annotations

from typing import Any

from hippo.protocol.decisions import Decision
from hippo.protocol.reports import Began, Ended, MetricsReported, Outcome, Report

KEY = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


def metrics(chain: str, number: int, value: float = 0.5) -> MetricsReported:
    return MetricsReported(
        chain=chain,
        sequence_number=number,
        step=number + 1,
        key=KEY,
        metrics={"accuracy": value},
        evaluate_seconds=0.1,
    )


def whole_chain(chain: str, length: int = 4) -> list[Report]:
    """Returns reports as a worker writes them: began, some metrics, ended."""
    began = Began(
        chain=chain,
        sequence_number=0,
        step=0,
        fingerprint={"torch": "2"},
        start_seconds=1.0,
        load_seconds=0.0,
    )
    ended = Ended(chain=chain, sequence_number=length - 1, step=length, outcome=Outcome.COMPLETED)
    return [began, *(metrics(chain, number) for number in range(1, length - 1)), ended]


def suggestion(index: int, **hyperparameters: object) -> Decision:
    return Decision(
        index=index,
        kind="suggest",
        trial=index,
        steps=10,
        hyperparameters=hyperparameters,
        reason="next of the grid",
    )


def study_document(name: str = "s", **spec: Any) -> dict[str, Any]:
    """Returns a minimal document of a study in the store."""
    return {"study": {"metadata": {"name": name}, "spec": {"steps": 10, **spec}}}
