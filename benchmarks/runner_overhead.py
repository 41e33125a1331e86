"""What the runner adds to a trainer's own step, in microseconds: its loop against a bare one.

    python benchmarks/runner_overhead.py [--steps 20000] [--rounds 7] [--torch]

The trainer does nothing; its sequence has a constant and a cosine. ``--torch`` imports PyTorch
first, so that its generators (and NumPy's) are seeded at every step too. The bound is 50
microseconds.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

from hippo.protocol.assignments import Assignment, Route, TrainerCall
from hippo.protocol.reports import Ended
from hippo.store import DirectoryBlobs, PlanStore
from stage_runner import Trainer
from stage_runner.chain import Chain

BOUND = 50.0  # microseconds


class Idle(Trainer):
    """Trains nothing."""

    def setup(self, config, hparams):
        pass

    def step(self, hparams):
        pass

    def evaluate(self):
        return {"nothing": 0.0}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def measure_runner(store: PlanStore, steps: int, round_: int) -> float:
    """Microseconds a step between the reports of the beginning and the end."""
    assignment = Assignment(
        chain=f"round-{round_}",
        signature="0" * 64,
        trainer=TrainerCall(entrypoint=f"{Path(__file__).stem}:Idle"),
        route=Route(
            hyperparameters={
                "momentum": 0.9,
                "lr": {"cosine": {"initial": 0.1, "final": 0.0, "steps": steps}},
            },
            steps=steps,
            stop_at=steps,
            save_at_stop=False,
        ),
    )
    chain = Chain(assignment, store, path=Path(__file__).parent, launched=time.monotonic())
    if chain.run() != 0:
        sys.exit("the chain failed")
    began, *_, ended = store.read_reports(assignment.chain)
    assert isinstance(ended, Ended)
    return (ended.worker_seconds - began.worker_seconds) / steps * 1e6


def measure_bare(steps: int) -> float:
    """Microseconds a step of a loop that only calls step()."""
    trainer, values = Idle(), {"momentum": 0.9, "lr": 0.1}
    began = time.perf_counter()
    for _ in range(steps):
        trainer.step(values)
    return (time.perf_counter() - began) / steps * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch", action="store_true")
    parsed = parser.parse_args()
    if parsed.torch:
        importlib.import_module("torch")
    with tempfile.TemporaryDirectory() as folder:
        store = PlanStore(DirectoryBlobs(Path(folder)), "plan")
        with_runner = [measure_runner(store, parsed.steps, i) for i in range(parsed.rounds)]
    bare = [measure_bare(parsed.steps) for _ in range(parsed.rounds)]
    for name, found in (("runner", with_runner), ("bare loop", bare)):
        print(f"{name:10} median {statistics.median(found):7.2f}  min {min(found):7.2f}  us a step")
    added = statistics.median(with_runner) - statistics.median(bare)
    ratio = statistics.median(with_runner) / statistics.median(bare)
    print(
        f"added      median {added:7.2f} us a step ({ratio:.0f} x a bare loop); bound {BOUND:.0f}"
    )
    return 0 if added < BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
