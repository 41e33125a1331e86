"""Validates what ``evaluate()`` returns: numbers by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import islice
from numbers import Real

from hippo.model.foreign import MAX_METRIC_NAME, MAX_METRICS, clip
from hippo.model.words import with_article

_MOST_QUOTED = 100  # bytes of a name in a message


class InvalidTrainer(Exception):
    """The trainer breaks its contract, so a retry cannot help. The message is one line."""


def check_metrics(returned: object) -> dict[str, float]:
    """Return the metrics as floats; 0-d tensors and NumPy scalars count as numbers, booleans do
    not.

    Raises InvalidTrainer.
    """
    if not isinstance(returned, Mapping) or not returned:
        what = "nothing" if returned is None or returned == {} else type(returned).__name__
        raise InvalidTrainer(
            f"evaluate() must return metrics by name, such as {{'loss': 0.3}}, not {what}"
        )
    if len(returned) > MAX_METRICS:
        beyond = list(islice(returned, MAX_METRICS, MAX_METRICS + 1))
        raise InvalidTrainer(
            f"evaluate() returns {len(returned)} metrics: at most {MAX_METRICS} can be kept;"
            f" leave out {_quote(beyond[0]) if beyond else 'some'} and what follows, or return sums"
            " and means"
        )
    return {_check_name(name): _to_float(name, value) for name, value in returned.items()}


def _check_name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidTrainer(
            f"evaluate(): the name of a metric must be a string, not {_quote(name)}"
        )
    if len(name) > MAX_METRIC_NAME:
        raise InvalidTrainer(
            f"evaluate(): the name of metric {_quote(name)} has {len(name)} characters: at most"
            f" {MAX_METRIC_NAME} can be kept"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidTrainer(
            f"evaluate(): the name of metric {_quote(name)} is no text: it cannot be written as"
            " UTF-8"
        ) from None
    return name


def _quote(name: object) -> str:
    """Quote a name in a message, clipped."""
    return clip(repr(name), _MOST_QUOTED)


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
            f"evaluate(): metric {_quote(name)} must be a number, not {_describe(value)}"
        )
    try:
        return float(number)
    except OverflowError:
        raise InvalidTrainer(f"evaluate(): metric {_quote(name)} is too large") from None


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return f"{with_article(kind)} of shape {tuple(shape)}" if shape else f"{kind} ({value!r:.40})"
