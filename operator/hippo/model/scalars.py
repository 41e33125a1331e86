"""Converts values of a user's program, including NumPy's and PyTorch's scalars, to plain JSON.

Neither library is imported: scalars are recognised by their ``dtype`` and by an empty ``shape``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from hippo.model.bounds import MAX_DEPTH
from hippo.model.errors import InvalidSpec
from hippo.model.sequences.numbers import number_problem, shorten


def to_plain(value: Any, path: str) -> Any:
    """Returns the value as dicts, lists, numbers, strings and booleans.

    A scalar of NumPy or PyTorch becomes exactly the number that it holds: ``float32(0.1)`` is
    0.10000000149011612. Raises InvalidSpec, with the path, for numbers that are not finite or
    beyond 2^53, and for anything that is not JSON.
    """
    return _to_plain(value, path, MAX_DEPTH)


def to_whole(value: Any, path: str) -> int:
    """Returns an integer, converted if it is NumPy's. Raises InvalidSpec."""
    plain = _scalar(value, path)
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise InvalidSpec.at(path, f"must be an integer, not {_describe(value)}")
    return plain


def _to_plain(value: Any, path: str, depth: int) -> Any:
    if depth < 0:
        raise InvalidSpec.at(path, f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidSpec.at(path, f"has a key that is no text: {_describe(key)}")
            name = str.__str__(key)
            plain[name] = _to_plain(item, f"{path}.{name}", depth - 1)
        return plain
    if isinstance(value, list | tuple):
        return [_to_plain(item, f"{path}[{i}]", depth - 1) for i, item in enumerate(value)]
    return _scalar(value, path)


def _scalar(value: Any, path: str) -> bool | int | float | str:
    is_plain = isinstance(value, bool | int | float | str)
    found = _item(value, path) if not is_plain and hasattr(value, "dtype") else value
    match found:
        case bool():
            return found
        case str():  # includes subclasses such as NumPy's
            return str.__str__(found)
        case int() | float():
            number = operator.index(found) if isinstance(found, int) else float(found)
            problem = number_problem(number)
            if problem is not None:
                raise InvalidSpec.at(path, problem)
            return number
    raise InvalidSpec.at(
        path, f"must be a number, text, true or false, a list or a schedule, not {_describe(value)}"
    )


def _item(value: Any, path: str) -> Any:
    """Returns the element of a scalar or 0-d array; times and masked values unchanged."""
    shape = tuple(getattr(value, "shape", ()))
    if shape:
        raise InvalidSpec.at(
            path, f"must be a single value, not an array of shape {shape}: use tolist()"
        )
    is_time = getattr(value.dtype, "kind", "") in ("m", "M")  # item() of a time may be an int
    if is_time or bool(getattr(value, "mask", False)):
        return value
    found = value.item()
    if type(found) is type(value):  # NumPy's longdouble, which has no equivalent in Python
        exact = float(value)
        if exact != value and not math.isnan(exact):
            raise InvalidSpec.at(path, f"has no exact double: {shorten(repr(value))}")
        return exact
    return found


def _describe(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__} {shorten(repr(value))}"
