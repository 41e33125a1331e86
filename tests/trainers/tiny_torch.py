"""A small network with all that makes exactness hard: dropout, normalisation, momentum."""

from __future__ import annotations

import torch
from torch import nn

from stage_runner import TorchTrainer


class Noisy(torch.utils.data.Dataset):
    """Draws anew whenever a sample is fetched."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index] + 0.1 * torch.randn(6), self.targets[index]


class TinyTrainer(TorchTrainer):
    """Config: ``count_file``; ``augment``: data sets instead of tensors; ``workers``."""

    iterations_per_step = 3

    def build_model(self, config, hparams):
        return nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )

    def build_data(self, config):
        self.loader_workers = config.get("workers", 0)
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(53, 6, generator=generator)
        targets = (inputs[:, 0] + inputs[:, 1] ** 2).long().clamp(0, 2)
        train, held_out = (inputs[:43], targets[:43]), (inputs[43:], targets[43:])
        return (Noisy(*train), held_out) if config.get("augment") else (train, held_out)

    def setup(self, config, hparams):
        super().setup(config, hparams)
        self.trained = 0

    def step(self, hparams):
        if "count_file" in self.config:
            from plain import count

            weights = [parameter.tolist() for parameter in self.model.parameters()]
            count(self.config, self.trained, weights)
        self.trained += 1
        return super().step(hparams)

    def state_dict(self):
        return {**super().state_dict(), "trained": self.trained}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.trained = state["trained"]
