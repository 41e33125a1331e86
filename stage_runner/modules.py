"""State of a model that training may change and ``state_dict()`` leaves out.

This covers modes, plain attributes (an annealed probability, a counter), which parameters are
trained, and buffers that are not persistent. Only values that differ from those after ``setup`` are
part of a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stage_runner.torch_state import is_like, place

_PLAIN = frozenset({bool, int, float, str, type(None)})


class Beside:
    """Tracks changes of a model since construction. The state dict is empty while nothing changed.

    A state dict uses the names of the model as it is now, since ``setup`` may wrap it or put it
    into another module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._attributes = {module: _take_plain(module) for module in model.modules()}
        self._trained = {p: p.requires_grad for p in model.parameters()}
        self._buffers = {
            (module, name): _mark(module._buffers[name]) for _, module, name in _find_buffers(model)
        }

    def state_dict(self, model: nn.Module) -> dict[str, dict[str, Any]]:
        modules = {name: self._find_changed(module) for name, module in model.named_modules()}
        found: dict[str, dict[str, Any]] = {
            "attributes": {name: changed for name, changed in modules.items() if changed},
            "requires_grad": {
                name: p.requires_grad
                for name, p in model.named_parameters()
                if self._trained.get(p) is not p.requires_grad
            },
            "buffers": {
                path: None if (buffer := module._buffers[name]) is None else buffer.detach()
                for path, module, name in _find_buffers(model)
                if self._is_changed(module, name)
            },
        }
        return {kind: changed for kind, changed in found.items() if changed}

    def load_state_dict(self, model: nn.Module, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Restore ``saved``; everything that it lacks returns to its initial value."""
        for module, plain in self._attributes.items():
            vars(module).update(plain)
        put_attributes(model, saved.get("attributes", {}))
        trained = saved.get("requires_grad", {})
        for name, parameter in model.named_parameters():
            first = self._trained.get(parameter, parameter.requires_grad)
            parameter.requires_grad_(trained.get(name, first))
        wanted = saved.get("buffers", {})
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        for path, module, name in _find_buffers(model):
            if path in wanted:
                module._buffers[name] = _renew(module._buffers[name], wanted[path], device)

    def _find_changed(self, module: nn.Module) -> dict[str, Any]:
        """Ignores private attributes of wrappers made later, which may differ between processes."""
        now = _take_plain(module)
        before = self._attributes.get(module)
        if before is None:
            return {name: value for name, value in now.items() if not name.startswith("_")}
        return _changed(now, before)

    def _is_changed(self, module: nn.Module, name: str) -> bool:
        before = self._buffers.get((module, name))
        now = _mark(module._buffers[name])
        return before is None or now[0] is not before[0] or now[1] != before[1]


def take_attributes(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return numbers, flags and texts among the attributes of each module, by the module's name."""
    return {name: _take_plain(module) for name, module in model.named_modules()}


def put_attributes(model: nn.Module, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore what ``take_attributes`` returned."""
    for name, module in model.named_modules():
        vars(module).update(attributes.get(name, {}))


def _take_plain(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if type(value) in _PLAIN}


def _find_buffers(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield the buffers that are not persistent: full name, owner, name in the owner."""
    for prefix, module in model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            if name in module._buffers:
                yield f"{prefix}.{name}" if prefix else name, module, name


def _renew(live: Tensor | None, wanted: Tensor | None, device: torch.device) -> Tensor | None:
    """Copy in place if possible, since other objects may share the memory."""
    if live is None or wanted is None or not is_like(live, wanted) or live.shape != wanted.shape:
        return None if wanted is None else place(wanted, device if live is None else live.device)
    with torch.no_grad():
        return live.copy_(wanted)


def _mark(buffer: Tensor | None) -> tuple[Tensor | None, int]:
    """Return a mark that changes whenever the buffer's contents may have changed."""
    return buffer, 0 if buffer is None or buffer.is_inference() else buffer._version


def _changed(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in now.items()
        if name not in before or type(value) is not type(before[name]) or value != before[name]
    }
