"""A trainer without PyTorch whose state is a hash of all that it was trained with, so that a step
left out, doubled, or trained under other values shows in every later metric.

Config: ``sleep``, seconds a step. The hyper-parameter ``mode`` names a misdeed at step 3.
"""

from __future__ import annotations

import hashlib
import json
import os
import time

from stage_runner import Trainer


class Chained(Trainer):
    def setup(self, config, hparams):
        self.sleep = config.get("sleep", 0.0)
        self.state = ""
        self.trained = 0

    def step(self, hparams):
        time.sleep(self.sleep)
        if self.trained >= 3:
            self.misbehave(hparams.get("mode", "good"))
        self.state = continued(self.state, self.trained, dict(hparams))
        self.trained += 1

    def misbehave(self, mode):
        match mode:
            case "raise":
                raise ValueError("told to fail")
            case "memory":
                hoard = []
                while True:
                    hoard.append(os.urandom(1 << 24))

    def evaluate(self):
        return {"score": score(self.state)}

    def state_dict(self):
        return {"state": self.state, "trained": self.trained}

    def load_state_dict(self, state):
        self.state, self.trained = state["state"], state["trained"]


def continued(state, step, values):
    text = f"{state} {step} {json.dumps(values, sort_keys=True)}"
    return hashlib.sha256(text.encode()).hexdigest()


def score(state):
    return int(hashlib.sha256(state.encode()).hexdigest()[:8], 16) / 2**32
