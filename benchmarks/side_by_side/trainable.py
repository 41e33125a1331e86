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
from hippo.store.records import TrainerCall
from stage_runner.chain import build_trainer
from stage_runner.environment import set_threads
from stage_runner.loading import load_trainer
from stage_runner.metrics import check_metrics
from stage_runner.randomness import seed_generators


class WholeTrial(tune.Trainable):
    """``config["trial"]``: JSON of study, hyperparameters, steps, trainer and its folder."""

    def setup(self, config: dict[str, Any]) -> None:
        self._begun = time.perf_counter()
        self._trial = json.loads(config["trial"])
        self._call = TrainerCall.model_validate(self._trial["trainer"])
        self._sequence = Sequence.of(self._trial["hyperparameters"], self._trial["steps"])
        set_threads(self._call.threads)
        trainer_class = load_trainer(self._call.entrypoint, Path(self._trial["folder"]))
        self._trainer = build_trainer(trainer_class, seed=self._call.seed)
        self._trainer.setup(self._call.config, dict(self._sequence.values(0)))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        seed, steps = self._call.seed, self._sequence.steps
        for step in range(steps):
            values = dict(self._sequence.values(step))
            seed_generators("step", seed, step)
            self._trainer.step(values)
        seed_generators("evaluate", seed, steps)
        metrics = check_metrics(self._trainer.evaluate())
        outcome = {
            "study": self._trial["study"],
            "hyperparameters": self._trial["hyperparameters"],
            "steps": steps,
            "metrics": {k: v if math.isfinite(v) else None for k, v in metrics.items()},
            "workerSeconds": time.perf_counter() - self._begun,
        }
        return {"outcome": json.dumps(outcome), "done": True}
