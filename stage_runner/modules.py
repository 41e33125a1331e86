"""What a model holds beside its ``state_dict()`` and training may change.

Modes, plain attributes (a probability that is annealed, a counter), which parameters are trained,
and buffers that are not persistent: PyTorch leaves them out. Only what is no longer as ``setup``
made it is part of a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from stage_runner.torch_state import place

_PLAIN = frozenset({bool, int, float, str, type(None)})


class Beside:
    """Remembers a model as it is now. State dicts are empty as long as it stays so."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._attributes = take_attributes(model)
        self._trained = _take_trained(model)
        self._buffers = {name: _mark(buffer) for name, _, buffer in _find_buffers(model)}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        modules = {
            name: _changed(plain, self._attributes.get(name, {}))
            for name, plain in take_attributes(self._model).items()
        }
        found = {
            "attributes": {name: changed for name, changed in modules.items() if changed},
            "requires_grad": _changed(_take_trained(self._model), self._trained),
            "buffers": {
                name: None if buffer is None else buffer.detach()
                for name, _, buffer in _find_buffers(self._model)
                if self._is_changed(name, buffer)
            },
        }
        return {kind: changed for kind, changed in found.items() if changed}

    def load_state_dict(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """What is not in ``saved`` becomes what it was at first."""
        put_attributes(self._model, self._attributes)
        put_attributes(self._model, saved.get("attributes", {}))
        trained = {**self._trained, **saved.get("requires_grad", {})}
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(trained.get(name, parameter.requires_grad))
        wanted = saved.get("buffers", {})
        for name, module, live in list(_find_buffers(self._model)):
            if name in wanted:
                value = wanted[name]
                like = live if live is not None else next(self._model.parameters(), value)
                module._buffers[name.rpartition(".")[2]] = (
                    None if value is None else place(value, like.device)
                )

    def _is_changed(self, name: str, buffer: Tensor | None) -> bool:
        before, version = self._buffers.get(name, (None, 0))
        return buffer is not before or _mark(buffer)[1] != version


def take_attributes(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Numbers, flags and texts among the attributes of each module, by its name."""
    return {
        name: {key: value for key, value in vars(module).items() if type(value) in _PLAIN}
        for name, module in model.named_modules()
    }


def put_attributes(model: nn.Module, attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Back to what ``take_attributes`` returned."""
    for name, module in model.named_modules():
        vars(module).update(attributes.get(name, {}))


def _take_trained(model: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _find_buffers(model: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor | None]]:
    """Those that are not persistent: their names in the model, and whose they are."""
    for prefix, module in model.named_modules():
        for name in sorted(module._non_persistent_buffers_set):
            if name in module._buffers:
                yield f"{prefix}.{name}" if prefix else name, module, module._buffers[name]


def _mark(buffer: Tensor | None) -> tuple[Tensor | None, int]:
    """A later one that differs has other contents, or may have."""
    return buffer, 0 if buffer is None or buffer.is_inference() else buffer._version


def _changed(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in now.items()
        if name not in before or type(value) is not type(before[name]) or value != before[name]
    }
