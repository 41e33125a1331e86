"""A small network with what makes exactness hard: dropout, normalisation, momentum, batches that
end in mid-epoch. It notes every step it trains, as ``walk`` does.
"""

from __future__ import annotations

import torch
from torch import nn
from walk import continued, note

from stage_runner import TorchTrainer


class Net(TorchTrainer):
    """43 samples, three batches a step: with 8 in a batch, an epoch is two steps."""

    iterations_per_step = 3

    def build_model(self, config, hparams):
        return nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )

    def build_data(self, config):
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(53, 6, generator=generator)
        targets = (inputs[:, 0] + inputs[:, 1] ** 2).long().clamp(0, 2)
        return (inputs[:43], targets[:43]), (inputs[43:], targets[43:])

    def setup(self, config, hparams):
        super().setup(config, hparams)
        self.history = "start"

    def step(self, hparams):
        metrics = super().step(hparams)
        before, self.history = self.history, continued(self.history, hparams)
        note("counts.txt", before, self.history)
        return metrics

    def state_dict(self):
        return {**super().state_dict(), "history": self.history}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.history = state["history"]
