"""A trainer for PyTorch: define a model and data, and override the rest as needed."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stage_runner.epochs import Batches, Epochs, as_dataset, length_of, split_in_order
from stage_runner.modules import Beside, put_attributes, take_attributes
from stage_runner.randomness import seed_generators
from stage_runner.torch_state import find_devices, restore_module, restore_optimizer
from stage_runner.trainer import Trainer, Value

Data = Dataset[Any] | Sequence[Tensor]
"""A data set with a length, or a tuple of tensors ``(inputs, targets)``, samples first."""

_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class TorchTrainer(Trainer):
    """Define ``build_model`` and ``build_data``; by default this trains a classifier.

    Known hyper-parameters: ``lr``, ``momentum``, ``weight_decay``, ``betas`` and any other option
    of the optimizer's parameter groups (set on every group, at every step), ``batch_size`` (default
    64), ``clip_norm`` (maximum norm of the gradient), ``optimizer`` (sgd, adam or adamw; a change
    begins with an empty optimizer state). If the sequence lacks one of these, the config's value is
    used, if present. ``step`` raises ValueError if the optimizer lacks a hyper-parameter that is
    set.
    """

    iterations_per_step: int | None = None
    """Batches in one step; None: one epoch. ``config["iterations_per_step"]`` overrides it."""

    eval_batch_size: int = 256
    """Samples in one evaluation batch."""

    loader_workers: int = 0
    """Processes that fetch samples of a data set; 0: none. Results do not depend on it."""

    deterministic: bool = True
    """Allow only deterministic kernels; other operations raise. False gives up exact results."""

    amp: torch.dtype | None = None
    """Type for automatic mixed precision; None: off. float16 gets a gradient scaler."""

    # What users override

    @abstractmethod
    def build_model(self, config: Mapping[str, Any], hparams: Mapping[str, Value]) -> nn.Module:
        """Return the untrained model, on any device. The random generators are seeded."""

    @abstractmethod
    def build_data(self, config: Mapping[str, Any]) -> tuple[Data, Data]:
        """Return training data and evaluation data. Tensors are moved to the device as a whole."""

    def build_optimizer(
        self, model: nn.Module, hparams: Mapping[str, Value]
    ) -> torch.optim.Optimizer:
        """Called in ``setup``, and again whenever the ``optimizer`` hyper-parameter changes.

        Raises ValueError for an optimizer other than sgd, adam and adamw.
        """
        name = hparams.get("optimizer", "sgd")
        if name not in _OPTIMIZERS:
            raise ValueError(f"optimizer {name!r} is unknown; known are {', '.join(_OPTIMIZERS)}")
        return _OPTIMIZERS[name](model.parameters(), lr=hparams.get("lr", 0.001))  # type: ignore[call-arg]

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean loss over a batch, a scalar tensor to minimise."""
        return nn.functional.cross_entropy(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return means over a batch; ``evaluate`` averages them over all samples."""
        right = outputs.argmax(dim=1) == targets
        return {"accuracy": right.double().mean(), "loss": self.loss(outputs, targets)}

    # Implementation of Trainer

    def setup(self, config: Mapping[str, Any], hparams: Mapping[str, Value]) -> None:
        if self.deterministic:
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        self.config = config
        train_data, eval_data = map(as_dataset, self.build_data(config))
        self.epochs = Epochs(length_of(train_data), seed=self.seed)
        self._train_batches = self._fetch_from(train_data)
        self._eval_length = length_of(eval_data)
        self._eval_batches = self._fetch_from(eval_data)
        seed_generators("model", self.seed)
        self.model = self.build_model(config, hparams).to(self.device)
        self._beside = Beside(self.model)
        self._use_optimizer(hparams)
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.amp is torch.float16)

    def step(self, hparams: Mapping[str, Value]) -> dict[str, float]:
        settings = {**self.config, **hparams}
        if hparams.get("optimizer") != self._built_with.get("optimizer"):
            self._use_optimizer(hparams)
        self._set_hyperparameters(settings, may_ignore="optimizer" in hparams)
        batch_size = _check_count("batch_size", settings.get("batch_size", 64))
        batches = self.epochs.take_step(batch_size, self._find_iterations())
        total = torch.zeros((), device=self.device)
        for batch, (inputs, targets) in self._train_batches.fetch(batches):
            seed_generators("iteration", self.seed, batch.epoch, batch.offset)
            total += self._train_batch(inputs, targets, settings.get("clip_norm"))
        return {"train_loss": total.item() / len(batches)}

    def evaluate(self) -> dict[str, float]:
        attributes = take_attributes(self.model)  # these include train/eval modes
        self.model.eval()
        sums: dict[str, Tensor] = {}
        everything = split_in_order(self._eval_length, self.eval_batch_size)
        with torch.no_grad():
            for batch, (inputs, targets) in self._eval_batches.fetch(everything):
                with self._autocast():
                    outputs = self.model(self._moved(inputs))
                for name, mean in self.metrics(outputs, self._moved(targets)).items():
                    weighted = torch.as_tensor(mean).double() * len(batch.indices)
                    sums[name] = sums[name] + weighted if name in sums else weighted
        put_attributes(self.model, attributes)
        return {name: value.item() / self._eval_length for name, value in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        beside = self._beside.state_dict(self.model)
        return {
            "model": self.model.state_dict(),
            **({"beside": beside} if beside else {}),
            "optimizer": self.optimizer.state_dict(),
            "devices": find_devices(self.optimizer),
            "built_with": self._built_with,
            "scaler": self.scaler.state_dict(),
            "data": self.epochs.state_dict(),
        }

    def load_state_dict(self, state: Any) -> None:
        restore_module(self.model, state["model"])
        self._beside.load_state_dict(self.model, state.get("beside", {}))
        if state["built_with"] != self._built_with:  # else keep it: schedulers may refer to it
            self._use_optimizer(state["built_with"])
        restore_optimizer(self.optimizer, state["optimizer"], state.get("devices"))
        self.scaler.load_state_dict(state["scaler"])
        self.epochs.load_state_dict(state["data"])

    # Helpers

    def _use_optimizer(self, hparams: Mapping[str, Value]) -> None:
        self._built_with = dict(hparams)
        self.optimizer = self.build_optimizer(self.model, {**self.config, **hparams})

    def _set_hyperparameters(self, settings: Mapping[str, Value], *, may_ignore: bool) -> None:
        for group in self.optimizer.param_groups:
            for name, value in settings.items():
                if name in group and name != "params":
                    group[name] = tuple(value) if isinstance(value, list) else value
        if may_ignore:
            return
        for name in ("lr", "momentum", "weight_decay", "betas"):
            if name in settings and not any(name in g for g in self.optimizer.param_groups):
                kind = type(self.optimizer).__name__
                raise ValueError(f"{name} is set, but the optimizer {kind} has none")

    def _train_batch(self, inputs: Any, targets: Any, clip_norm: float | None) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self.loss(self.model(self._moved(inputs)), self._moved(targets))
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _fetch_from(self, dataset: Dataset[Any]) -> Batches:
        return Batches(dataset, seed=self.seed, workers=self.loader_workers, device=self.device)

    def _find_iterations(self) -> int | None:
        iterations = self.config.get("iterations_per_step", self.iterations_per_step)
        return None if iterations is None else _check_count("iterations_per_step", iterations)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.amp is None:
            return contextlib.nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=self.amp)

    def _moved(self, data: Any) -> Any:
        """Move tensors to the device, also those inside containers."""
        if isinstance(data, Tensor):
            return data.to(self.device, non_blocking=True)
        if isinstance(data, Mapping):
            return {key: self._moved(item) for key, item in data.items()}
        if isinstance(data, (list, tuple)):
            return [self._moved(item) for item in data]
        return data


def _check_count(name: str, value: Value) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")
    return value
