"""One study of the local driver, to be disturbed: ``hippo run`` again until it has succeeded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hippo.protocol.reports import CheckpointSaved
from hippo.store import PlanStore, list_plans, open_blobs
from tests.chaos.outcome import Outcome
from tests.chaos.run import SPACE, SPEC, Late
from tests.chaos.verdict import weigh
from tests.chaos.witness import Witness
from tests.e2e.site import TRAINERS
from tests.integration.runs import Done, Place

Document = dict[str, Any]

STEP_SECONDS = 0.1
MOST_RUNS = 40
PAUSE_SECONDS = 2.0
"""Before a run that failed is begun again, as a person or a cron job would."""


@dataclass
class LocalRun:
    """Made by :func:`prepared`. ``store``: its URL, if it is not a folder of its own."""

    place: Place
    witness: Witness
    stack: ExitStack
    outcome: Outcome
    store: str = ""
    process: subprocess.Popen[str] | None = None
    began: float = 0.0
    result: Document | None = None
    lines: list[str] = field(default_factory=list)
    """What ``hippo run`` has complained of."""
    _spoilt: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = self.store or str(self.place.store_folder)

    # -- what faults do ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Start ``hippo run``, for the first time or again."""
        config = {"sleep": STEP_SECONDS, "witness": self.witness.address}
        spec = {key: value for key, value in SPEC.items() if key != "parallelism"}
        trainer = {"entrypoint": "witnessed:Witnessed", "config": config}
        study = self.place.study("study", SPACE, **spec, trainer=trainer)
        self.began = self.began or time.monotonic()
        words = ["--workers", "3", "--store", self.store, "-o", "json"]
        self.process = self.place.start("run", study, *words)

    def injected(self, times: int = 1) -> None:
        self.outcome.injected += times

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_for_steps(self, more: int) -> None:
        """Until so many more have been trained, or the run has ended."""
        known = len(self.witness.steps)
        self.wait_until(
            lambda: len(self.witness.steps) >= known + more or not self.is_running,
            f"{more} more steps",
        )

    def wait_until(self, holds: Callable[[], object], what: str, seconds: float = 300.0) -> None:
        """Raises Late."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise Late(f"not in {seconds:.0f} s: {what}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL to the driver; all its workers go with it."""
        assert self.process is not None
        self.place.kill(self.process)
        self.process = None

    def end(self) -> Done | None:
        """Of the present run, as it comes; None if there is none."""
        if self.process is None:
            return None
        stdout, stderr = self.process.communicate(timeout=600.0)
        done = Done(self.process.returncode, stdout, stderr)
        self.outcome.note("Traceback" not in stderr, f"a traceback: {stderr[-1500:]}")
        self.lines += done.errors
        self.process = None
        if done.status == 0:
            self.result = done.json()
        return done

    def spoil(self) -> None:
        """Whatever workers have stored so far was damaged."""
        self._spoilt |= {step.worker for step in self.witness.steps}

    @property
    def plan(self) -> PlanStore:
        blobs = open_blobs(self.store)
        (path,) = list_plans(blobs)
        return PlanStore(blobs, path)

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> Document:
        """Run again until it succeeds, and weigh what came of it."""
        for _ in range(MOST_RUNS):
            self.end()
            if self.result is not None:
                break
            time.sleep(PAUSE_SECONDS)
            self.begin()
        else:
            raise Late(f"no success in {MOST_RUNS} runs: {self.lines[-3:]}")
        self.outcome.makespan = time.monotonic() - self.began
        records = self.plan.load()
        outcome = self.outcome
        left = [f"process {pid}" for pid in self.place.processes()]
        left += [f"data of {key} without a manifest" for key in records.orphans]
        left += [f"stray {info.name}" for info in records.strays]
        if len(records.manifests) != 1:
            left.append(f"{len(records.manifests)} checkpoints instead of the best trial's")
        outcome.problems += [f"left behind: {item}" for item in left]
        saved = {
            chain: [r.step for r in told if isinstance(r, CheckpointSaved)]
            for chain, told in records.reports.items()
        }
        work = weigh(self.witness.steps, saved, spoilt=self._spoilt)
        outcome.trained, outcome.again, outcome.unsaved = work.trained, work.again, work.unsaved
        outcome.longest_pause = work.longest_pause
        outcome.problems += work.unexplained
        fields = ("trial", "hyperparameters", "steps", "phase", "metrics")
        assert self.result is not None
        trials = [{name: trial[name] for name in fields} for trial in self.result["trials"]]
        return {"best": (self.result["best"] or {}).get("trial"), "trials": trials}


@contextmanager
def prepared(fault: str, folder: Path) -> Iterator[LocalRun]:
    place = Place(folder / "place")
    for file in ("chained.py", "witnessed.py"):
        shutil.copy(TRAINERS / file, place.folder)
    with ExitStack() as stack:
        witness = stack.enter_context(Witness("127.0.0.1").listening())
        stack.callback(place.clean_up)
        yield LocalRun(place, witness, stack, Outcome("local", fault))


def send(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
