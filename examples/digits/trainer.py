"""Handwritten digits: 1,797 pictures of 8 by 8 pixels, which come with scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from stage_runner import TorchTrainer

DIGITS = load_digits()
"""Read when the module is imported, which happens once per run; workers are forked afterwards.
The data stays in NumPy arrays, because an import must not use a GPU."""

HELD_OUT = 500
"""Pictures that are never trained on; accuracy is measured on them."""


class DigitsTrainer(TorchTrainer):
    """A small convolutional network; one step is one epoch, about 0.1 s on a core.

    Config: ``width`` (channels of the first layer, default 24), ``dropout`` (default 0.25).
    """

    def build_model(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> nn.Module:
        width = config.get("width", 24)
        return nn.Sequential(
            nn.Conv2d(1, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(config.get("dropout", 0.25)),
            nn.Linear(2 * width * 2 * 2, 10),
        )

    def build_data(
        self, config: Mapping[str, Any]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        pictures = torch.tensor(DIGITS.images, dtype=torch.float32).unsqueeze(1) / 16
        labels = torch.tensor(DIGITS.target)
        # One split, whatever the study's seed: all trials are measured by the same pictures.
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        train, held_out = order[HELD_OUT:], order[:HELD_OUT]
        return (pictures[train], labels[train]), (pictures[held_out], labels[held_out])
