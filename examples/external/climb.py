"""Your own tuner: a random walk that continues from the best point so far.

    python climb.py STORE STUDY [TRIALS]

``hippo run`` trains meanwhile, in a process of its own. This file lies outside the study's folder:
an edit there would begin the study afresh.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

from hippo.client import Client, TrialView

SHORT, LONG = 5, 30


class Walk:
    """Tries each point for 5 epochs. A new best is extended to 30, any other is stopped."""

    def __init__(self, client: Client, trials: int) -> None:
        self.client = client
        self.left = trials
        self.random = random.Random(0)
        self.place = (0.01, 0.001)
        self.least = float("inf")
        self.promising: list[int] = []

    def ask(self) -> tuple[Mapping[str, Any] | int, int] | None:
        if self.promising:
            return self.promising.pop(), LONG
        if self.left == 0:
            return None
        self.left -= 1
        lr, weight_decay = (x * self.random.uniform(0.5, 2) for x in self.place)
        return {"lr": round(lr, 6), "weight_decay": round(weight_decay, 6)}, SHORT

    def tell(self, trial: TrialView, step: int, metrics: Mapping[str, float] | None) -> None:
        if step == LONG or metrics is None:
            return
        if metrics["loss"] < self.least:
            self.least = metrics["loss"]
            self.place = (trial.hyperparameters["lr"], trial.hyperparameters["weight_decay"])
            self.promising.append(trial.ticket)
        else:
            self.client.stop(trial.ticket)


def main(store: str, study: str, trials: int = 10) -> None:
    client = Client.open(store, study)
    for view in client.drive(Walk(client, trials), in_flight=2).values():
        step = max(view.metrics, default=0)
        loss = f"loss {view.metrics[step]['loss']:.4f} at step {step}" if step else view.reason
        print(f"{view.name or view.ticket}: {loss}")  # noqa: T201


if __name__ == "__main__":
    store, study, *trials = sys.argv[1:]
    main(store, study, *map(int, trials))
