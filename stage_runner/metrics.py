"""What evaluate() may return: numbers by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Real

from hippo.model.words import with_article


class InvalidTrainer(Exception):
    """The trainer breaks its contract; trying again cannot help. One line."""


def check_metrics(returned: object) -> dict[str, float]:
    """As plain floats; 0-d tensors and NumPy scalars count as numbers, booleans do not.

    Raises InvalidTrainer.
    """
    if not isinstance(returned, Mapping) or not returned:
        what = "nothing" if returned is None or returned == {} else type(returned).__name__
        raise InvalidTrainer(
            f"evaluate() must return metrics by name, such as {{'loss': 0.3}}, not {what}"
        )
    return {_check_name(name): _to_float(name, value) for name, value in returned.items()}


def _check_name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidTrainer(f"evaluate(): the name of a metric must be a string, not {name!r}")
    return name


def _to_float(name: object, value: object) -> float:
    torch = sys.modules.get("torch")
    number = value
    if torch is not None and isinstance(value, torch.Tensor) and value.dim() == 0:
        number = value.item()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)) and value.ndim == 0:
        number = value.item()
    if isinstance(number, bool) or not isinstance(number, Real):
        raise InvalidTrainer(
            f"evaluate(): metric {name!r} must be a number, not {_describe(value)}"
        )
    try:
        return float(number)
    except OverflowError:
        raise InvalidTrainer(f"evaluate(): metric {name!r} is too large") from None


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{with_article(kind)} of shape {tuple(shape)}" if shape else f"{kind} ({value!r:.40})"
