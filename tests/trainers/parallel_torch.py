"""Computes with several threads when imported, as a module that prepares its data may."""

from __future__ import annotations

import torch
from tiny_torch import TinyTrainer

TABLE = torch.randn(700, 700) @ torch.randn(700, 700)

print("imported")


class ParallelTrainer(TinyTrainer):
    def step(self, hparams):
        torch.randn(700, 700) @ torch.randn(700, 700)
        return super().step(hparams)
