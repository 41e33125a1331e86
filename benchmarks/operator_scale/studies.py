"""What is trained: studies of one trainer whose trials branch late, and what they must come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.world import train_alone

MOST_TRIALS = 500
"""Of a study: the operator's window of trials under way at once."""
BRANCHES = 20
"""Trials that share a beginning."""
FORK, STEPS = 10, 30

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """Twice as many trials as pods; a fork for every ``BRANCHES`` of them."""

    pods: int

    @property
    def trials(self) -> int:
        return 2 * self.pods

    @property
    def trunks(self) -> int:
        return -(-self.trials // BRANCHES)

    @property
    def stages(self) -> int:
        return self.trunks + self.trials

    @property
    def unique_steps(self) -> int:
        return self.trunks * FORK + self.trials * (STEPS - FORK)

    @property
    def step_seconds(self) -> float:
        """So long that, at some pods a second, all of them are there before the first leaves."""
        return max(20.0, 0.15 * self.pods) / (STEPS - FORK)

    def build(self, namespace: str) -> list[Document]:
        """The studies, with a fair share of the pods each."""
        schedules = [self._schedule(number) for number in range(self.trials)]
        count = -(-self.trials // MOST_TRIALS)
        size = -(-self.trials // count)
        parts = [schedules[at : at + size] for at in range(0, self.trials, size)]
        return [
            {
                "apiVersion": "hippo.dev/v1alpha1",
                "kind": "Study",
                "metadata": {"name": f"scale-{number}", "namespace": namespace},
                "spec": {
                    "objective": {"metric": "score", "goal": "maximize"},
                    "steps": STEPS,
                    "space": {"lr": {"choices": part}},
                    "algorithm": {"name": "grid"},
                    "parallelism": -(-self.pods // count),
                    "trainer": {
                        "entrypoint": "chained:Chained",
                        "config": {"sleep": self.step_seconds},
                        "image": "standin:1",
                    },
                },
            }
            for number, part in enumerate(parts)
        ]

    def _schedule(self, number: int) -> Document:
        trunk, branch = divmod(number, BRANCHES)
        before = round(0.001 * (trunk + 1), 6)
        return {"piecewise": [[0, before], [FORK, round(before * (0.5 + 0.01 * branch), 9)]]}


def find_wrong(trials: list[Document]) -> list[str]:
    """Names of Trials that have not completed with what training them alone gives."""
    wrong = []
    for trial in trials:
        _, metrics = train_alone(trial["spec"]["hyperparameters"], STEPS, STEPS)
        status = trial.get("status") or {}
        told = (status.get("phase"), status.get("step"), status.get("metrics"))
        if told != ("Completed", STEPS, metrics):
            wrong.append(trial["metadata"]["name"])
    return wrong
