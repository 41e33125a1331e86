"""Restores PyTorch modules and optimizers exactly: types, layouts and devices.

``Optimizer.load_state_dict`` casts floating-point state to the type of its parameter and moves it
to the parameter's device; ``Module.load_state_dict`` copies into existing tensors, whose type and
layout remain. Both assume that the saved model may differ from this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def restore_module(module: nn.Module, saved: Mapping[str, Any]) -> None:
    """Restore ``saved``, from ``module.state_dict()``, even if buffers were added or resized
    meanwhile.
    """
    _fit_buffers(module, saved)
    module.load_state_dict(saved)
    for name, live in module.state_dict(keep_vars=True).items():
        wanted = saved.get(name)
        if isinstance(live, Tensor) and isinstance(wanted, Tensor) and not is_like(live, wanted):
            live.data = place(wanted, live.device)


def restore_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], devices: Iterable[str] | None
) -> None:
    """Restore ``saved``, from ``optimizer.state_dict()``. ``devices`` is what ``find_devices``
    returned when it was saved; None: restore like PyTorch.
    """
    groups = optimizer.param_groups
    optimizer.load_state_dict(dict(saved))
    _keep_groups(optimizer, groups)
    if devices is None:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    device = parameters[0].device if parameters else torch.device("cpu")
    mending = _Mending(device, iter(devices))
    mending.mend(optimizer.state_dict()["state"], saved["state"])  # the live dicts of parameters
    for group, wanted in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        mending.mend(group, {name: value for name, value in wanted.items() if name != "params"})


def find_devices(optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the device type of each tensor in an optimizer's state: counters may be on the CPU."""
    saved = optimizer.state_dict()
    return [tensor.device.type for tensor in _find_tensors([saved["state"], saved["param_groups"]])]


class _Mending:
    """Compares what was restored with what was saved, and replaces what differs."""

    def __init__(self, device: torch.device, devices: Iterator[str]) -> None:
        self._device = device
        self._devices = devices

    def mend(self, live: Any, saved: Any) -> None:
        """Replace tensors in ``live`` whose type, layout or device differs from ``saved``."""
        pairs = saved.items() if isinstance(saved, dict) else enumerate(saved)
        for key, wanted in pairs:
            if isinstance(wanted, Tensor):
                type_ = next(self._devices)
                device = self._device if type_ == self._device.type else torch.device(type_)
                found = live[key]
                is_same = found.device == device and is_like(found, wanted)
                if not is_same and not isinstance(live, tuple):
                    live[key] = place(wanted, device)
            elif isinstance(wanted, (dict, list, tuple)):
                self.mend(live[key], wanted)


def _fit_buffers(module: nn.Module, saved: Mapping[str, Any]) -> None:
    """Allocate saved buffers that are None, or have another shape, in a fresh module."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    for prefix, owner in module.named_modules():
        for name, live in list(owner._buffers.items()):
            wanted = saved.get(f"{prefix}.{name}" if prefix else name)
            if not isinstance(wanted, Tensor) or nn.parameter.is_lazy(live):
                continue
            if live is None or live.shape != wanted.shape:
                owner._buffers[name] = place(
                    wanted.clone(), device if live is None else live.device
                )


def _keep_groups(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> None:
    """Keep the parameter group objects that PyTorch would replace: schedulers may refer to them."""
    for live, loaded in zip(groups, optimizer.param_groups, strict=True):
        if live is not loaded:
            entries = dict(loaded)
            live.clear()
            live.update(entries)
    optimizer.param_groups = groups


def _find_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _find_tensors(item)


def is_like(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.stride() == other.stride()


def place(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device with its type and strides, even with gaps."""
    if device.type == "cpu":
        return tensor
    moved = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
    ).copy_(tensor)
    return moved.requires_grad_(tensor.requires_grad)
