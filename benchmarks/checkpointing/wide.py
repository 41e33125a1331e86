"""A wide network with a state of a given size, and steps of some seconds."""

from __future__ import annotations

import torch
from torch import nn

from stage_runner import TorchTrainer


class WideTrainer(TorchTrainer):
    """Config: ``parameters`` (of two square layers), ``iterations_per_step``, ``batch_size``.

    With SGD and momentum the state is eight bytes for each parameter.
    """

    def build_model(self, config, hparams):
        width = round((config["parameters"] / 2) ** 0.5)
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def build_data(self, config):
        width = round((config["parameters"] / 2) ** 0.5)
        count = config["iterations_per_step"] * config["batch_size"]
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(count, width, generator=generator)
        labels = torch.arange(count) % width
        return (inputs, labels), (inputs[:32], labels[:32])
