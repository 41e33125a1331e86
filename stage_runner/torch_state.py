"""Modules and optimizers of PyTorch restored as they were: types, layouts and devices.

``Optimizer.load_state_dict`` casts floating-point state to the type of its parameter and moves it
to the parameter's device; ``Module.load_state_dict`` copies into what is there, whose type and
layout stay. Both were written for other models than those that were saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def restore_module(module: nn.Module, saved: Mapping[str, Any]) -> None:
    """``saved``: from ``module.state_dict()``."""
    module.load_state_dict(saved)
    for name, live in module.state_dict(keep_vars=True).items():
        wanted = saved.get(name)
        if isinstance(live, Tensor) and isinstance(wanted, Tensor) and not _is_like(live, wanted):
            live.data = _place(wanted, live.device)


def find_modes(module: nn.Module) -> dict[str, list[str]]:
    """What a module's ``state_dict`` leaves out: which parameters are frozen, which modules are not
    in training mode.
    """
    return {
        "frozen": [name for name, p in module.named_parameters() if not p.requires_grad],
        "evaluating": [name for name, part in module.named_modules() if not part.training],
    }


def restore_modes(module: nn.Module, modes: Mapping[str, list[str]]) -> None:
    """``modes``: from ``find_modes``."""
    frozen, evaluating = set(modes["frozen"]), set(modes["evaluating"])
    for name, parameter in module.named_parameters():
        if parameter.requires_grad == (name in frozen):
            parameter.requires_grad_(name not in frozen)
    for name, part in module.named_modules():
        if part.training == (name in evaluating):
            part.training = name not in evaluating


def restore_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], devices: Iterable[str] | None
) -> None:
    """``saved``: from ``optimizer.state_dict()``; ``devices``: from ``find_devices``, then. None if
    they are not known: then it is as PyTorch restores it.
    """
    optimizer.load_state_dict(dict(saved))
    if devices is None:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    device = parameters[0].device if parameters else torch.device("cpu")
    mending = _Mending(device, iter(devices))
    mending.mend(optimizer.state_dict()["state"], saved["state"])  # the live dicts of parameters
    for group, wanted in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        mending.mend(group, {name: value for name, value in wanted.items() if name != "params"})


def find_devices(optimizer: torch.optim.Optimizer) -> list[str]:
    """The type of the device of each tensor in an optimizer's state: counters may be on the CPU."""
    saved = optimizer.state_dict()
    return [tensor.device.type for tensor in _find_tensors([saved["state"], saved["param_groups"]])]


class _Mending:
    """Walks through what was restored and what was saved side by side."""

    def __init__(self, device: torch.device, devices: Iterator[str]) -> None:
        self._device = device
        self._devices = devices

    def mend(self, live: Any, saved: Any) -> None:
        """Replace tensors in ``live`` that are not like those in ``saved``."""
        pairs = saved.items() if isinstance(saved, dict) else enumerate(saved)
        for key, wanted in pairs:
            if isinstance(wanted, Tensor):
                type_ = next(self._devices)
                device = self._device if type_ == self._device.type else torch.device(type_)
                found = live[key]
                is_same = found.device == device and _is_like(found, wanted)
                if not is_same and not isinstance(live, tuple):
                    live[key] = _place(wanted, device)
            elif isinstance(wanted, (dict, list, tuple)):
                self.mend(live[key], wanted)


def _find_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _find_tensors(item)


def _is_like(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.stride() == other.stride()


def _place(tensor: Tensor, device: torch.device) -> Tensor:
    """The same on a device: type, and strides even with gaps."""
    if device.type == "cpu":
        return tensor
    moved = torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
    ).copy_(tensor)
    return moved.requires_grad_(tensor.requires_grad)
