"""The model of ``tests.world`` as a trainer: its state is a hash of all values so far."""

from __future__ import annotations

import hashlib

from stage_runner import Trainer


class Hashed(Trainer):
    """Draws nothing, so that all seeds give the same."""

    def setup(self, config, hparams):
        self.at, self.state = 0, ""

    def step(self, hparams):
        text = f"{self.state} {self.at} {sorted(hparams.items())}"
        self.state = hashlib.sha256(text.encode()).hexdigest()
        self.at += 1

    def evaluate(self):
        return {"score": int(hashlib.sha256(self.state.encode()).hexdigest()[:8], 16) / 2**32}

    def state_dict(self):
        return {"at": self.at, "state": self.state}

    def load_state_dict(self, state):
        self.at, self.state = state["at"], state["state"]
