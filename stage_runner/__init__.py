"""Trains: what users subclass, and the worker that drives it.

``import stage_runner`` loads neither NumPy nor PyTorch; ``TorchTrainer`` brings PyTorch with it
when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage_runner.trainer import Trainer

if TYPE_CHECKING:
    from stage_runner.torch_trainer import TorchTrainer

__all__ = ["TorchTrainer", "Trainer"]


def __getattr__(name: str) -> object:
    if name == "TorchTrainer":
        from stage_runner.torch_trainer import TorchTrainer

        return TorchTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
