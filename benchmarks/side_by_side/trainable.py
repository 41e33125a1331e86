"""A trial of Ray Tune that does what Hippo's worker does for a chain of one whole trial.

The same trainer class, the same values at each step, and generators seeded in the same places. All
of a trial is one call of ``step``: Ray exchanges one message for it and keeps no checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from ray import tune

from hippo.model import Sequence
from hippo.protocol.assignments import TrainerCall
from stage_runner.entry_point import load_trainer
from stage_runner.environment import set_threads
from stage_runner.metrics import check_metrics
from stage_runner.randomness import seed_generators
from stage_runner.start import build_trainer


class WholeTrial(tune.Trainable):
    """``config["trial"]``: JSON of study, hyperparameters, steps, trainer and its folder.

    Nothing is built before ``step``, so that actors are there at once: where a first trial ends
    before another one's actor is there, Tune kills that and passes the first one's on.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._trial = json.loads(config["trial"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        begun = time.perf_counter()
        metrics = train(self._trial)
        outcome = {
            "study": self._trial["study"],
            "hyperparameters": self._trial["hyperparameters"],
            "steps": self._trial["steps"],
            "metrics": {k: v if math.isfinite(v) else None for k, v in metrics.items()},
            "workerSeconds": time.perf_counter() - begun,
        }
        return {"outcome": json.dumps(outcome), "done": True}


def train(trial: dict[str, Any]) -> dict[str, float]:
    """All steps of a trial; its metrics at the end."""
    call = TrainerCall.model_validate(trial["trainer"])
    sequence = Sequence.of(trial["hyperparameters"], trial["steps"])
    set_threads(call.threads)
    trainer_class = load_trainer(call.entrypoint, Path(trial["folder"]))
    trainer = build_trainer(trainer_class, seed=call.seed)
    trainer.setup(call.config, dict(sequence.values(0)))
    for step in range(sequence.steps):
        values = dict(sequence.values(step))
        seed_generators("step", call.seed, step)
        trainer.step(values)
    seed_generators("evaluate", call.seed, sequence.steps)
    return check_metrics(trainer.evaluate())
