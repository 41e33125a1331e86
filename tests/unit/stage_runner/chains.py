"""Runs chains in this process, against a real store."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hippo.model import Sequence
from hippo.protocol.assignments import Assignment, Control, Route, TrainerCall
from hippo.protocol.reports import CheckpointSaved, Ended, MetricsReported, Report
from hippo.store import DirectoryBlobs, PlanStore
from stage_runner.chain import Chain

TRAINERS = Path(__file__).parents[2] / "trainers"
SIGNATURE = "f" * 64
SCHEDULES: dict[str, Any] = {
    "lr": {"cosine": {"initial": 0.1, "final": 0.0, "steps": 12}},
    "momentum": 0.9,
    "batch_size": {"piecewise": [[0, 8], [5, 16]]},
}


@dataclass
class Ran:
    """What a chain left behind."""

    status: int
    reports: list[Report]

    @property
    def ended(self) -> Ended:
        assert isinstance(self.reports[-1], Ended)
        return self.reports[-1]

    @property
    def metrics(self) -> dict[int, dict[str, float]]:
        return {r.step: r.metrics for r in self.reports if isinstance(r, MetricsReported)}

    @property
    def digests(self) -> dict[int, str]:
        return {r.step: r.state_digest for r in self.reports if isinstance(r, CheckpointSaved)}

    @property
    def kinds(self) -> list[str]:
        return [f"{report.kind}@{report.step}" for report in self.reports]


class Lab:
    """One plan, and the chains that work on it."""

    def __init__(self, folder: Path, entrypoint: str = "plain:PlainTrainer") -> None:
        self.folder = folder
        self.entrypoint = entrypoint
        self.count_file = folder / "count"
        self.chains = 0

    def store(self, name: str = "plan") -> PlanStore:
        return PlanStore(DirectoryBlobs(self.folder / "store"), name)

    def counted(self) -> list[int]:
        """Steps trained so far, as the trainers themselves say."""
        lines = self.count_file.read_text().splitlines() if self.count_file.exists() else []
        return [int(line.split()[0]) for line in lines]

    def assignment(
        self,
        stop_at: int = 12,
        *,
        start: int = 0,
        hyperparameters: dict[str, Any] | None = None,
        steps: int = 12,
        config: dict[str, Any] | None = None,
        save_at: tuple[int, ...] | None = None,
        evaluate_at: tuple[int, ...] = (),
        save_at_stop: bool = True,
        entrypoint: str | None = None,
        **settings: Any,
    ) -> Assignment:
        """As requests are: what is evaluated is saved, unless ``save_at`` says otherwise."""
        written = SCHEDULES if hyperparameters is None else hyperparameters
        self.chains += 1
        key = Sequence.of(written, steps).key(start, SIGNATURE) if start else None
        return Assignment(
            chain=f"chain-{self.chains}",
            signature=SIGNATURE,
            trainer=TrainerCall(
                entrypoint=entrypoint or self.entrypoint,
                config={"count_file": str(self.count_file), **(config or {})},
                seed=3,
            ),
            route=Route(
                hyperparameters=written,
                steps=steps,
                stop_at=stop_at,
                save_at=evaluate_at if save_at is None else save_at,
                evaluate_at=evaluate_at,
                save_at_stop=save_at_stop,
            ),
            start=start,
            start_key=key,
            **{"poll_seconds": 0.005, **settings},
        )

    def run(self, assignment: Assignment, plan: str = "plan") -> Ran:
        store = self.store(plan)
        status = Chain(assignment, store, path=TRAINERS, launched=time.monotonic()).run()
        return Ran(status, store.read_reports(assignment.chain))

    def steer_later(
        self, assignment: Assignment, versions: list[tuple[str, int, Route]]
    ) -> threading.Thread:
        """Write controls, each once a report of a kind has come (``began@0``) a number of times."""

        def work() -> None:
            store = self.store()
            for number, (kind, times, route) in enumerate(versions, start=1):
                deadline = time.monotonic() + 10
                while time.monotonic() < deadline:
                    reports = store.read_reports(assignment.chain)
                    if sum(f"{r.kind}@{r.step}".startswith(kind) for r in reports) >= times:
                        break
                    time.sleep(0.002)
                store.write_control(Control(chain=assignment.chain, version=number, route=route))

        thread = threading.Thread(target=work)
        thread.start()
        return thread
