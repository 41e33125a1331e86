"""A trainer whose module draws when it is imported, and that imports late."""

from __future__ import annotations

import random

import numpy as np

from stage_runner import Trainer

START = random.random() + np.random.standard_normal()


class Drawn(Trainer):
    def setup(self, config, hparams):
        import torch

        self.x = START + torch.randn(()).item()

    def step(self, hparams):
        self.x *= hparams["lr"]
        return {}

    def evaluate(self):
        return {"score": self.x}

    def state_dict(self):
        return {"x": self.x}

    def load_state_dict(self, state):
        self.x = state["x"]
