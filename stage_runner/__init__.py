"""The training side of Hippo: the trainer classes that users subclass, and the worker that runs
them.

``import stage_runner`` loads neither NumPy nor PyTorch; the first access to ``TorchTrainer``
imports PyTorch.
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
