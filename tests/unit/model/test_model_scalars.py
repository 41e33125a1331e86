"""Values of users' programs: their exact conversion, and which are refused."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hippo.model import InvalidSpec
from hippo.model.scalars import to_plain, to_whole


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 3


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (0.1, 0.1),
        (True, True),
        ("adam", "adam"),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.float32(0.1), 0.10000000149011612),
        (np.float16(0.1), 0.0999755859375),
        (np.longdouble(0.5), 0.5),
        (np.int64(7), 7),
        (np.uint8(255), 255),
        (np.int64(2**53), 2**53),
        (np.bool_(True), True),
        (np.str_("adam"), "adam"),
        (np.array(0.25), 0.25),
        (np.array(3), 3),
        (np.array("adam"), "adam"),
        (torch.tensor(0.1), 0.10000000149011612),
        (torch.tensor(0.1, dtype=torch.float64), 0.1),
        (torch.tensor(0.1, dtype=torch.bfloat16), 0.10009765625),
        (torch.tensor(3), 3),
        (torch.tensor(True), True),
        (torch.nn.Parameter(torch.tensor(0.5)), 0.5),
        (Colour.RED, "red"),
        (Size.SMALL, 3),
        ((np.float32(0.5), 1), [0.5, 1]),
        ({np.str_("piecewise"): [[0, 0.1], [np.int64(4), np.float32(0.5)]]},
         {"piecewise": [[0, 0.1], [4, 0.5]]}),
    ],
)  # fmt: skip
def test_scalars_are_what_they_are(value: Any, plain: Any) -> None:
    found = to_plain(value, "x")
    assert found == plain
    assert json.dumps(found) == json.dumps(plain)
    assert type(found) is type(plain)


KINDS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


@given(st.sampled_from(KINDS).flatmap(lambda kind: arrays.from_dtype(np.dtype(kind))))
def test_every_scalar_of_numpy_is_exact_or_refused(value: Any) -> None:
    item = value.item()
    if not math.isfinite(item) or (isinstance(item, int) and abs(item) > 2**53):
        with pytest.raises(InvalidSpec, match=r"^lr: "):
            to_plain(value, "lr")
        return
    found = to_plain(value, "lr")
    assert type(found) is type(item)
    assert json.loads(json.dumps(found)) == item


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "x: must be finite, not nan"),
        (-math.inf, "x: must be finite, not -inf"),
        (np.float32("nan"), "x: must be finite, not nan"),
        (np.float16("inf"), "x: must be finite, not inf"),
        (np.longdouble("nan"), "x: must be finite, not nan"),
        (torch.tensor(math.nan), "x: must be finite, not nan"),
        (2**53 + 1, "x: is beyond 2^53 (9007199254740992), where integers are no longer exact"),
        (np.uint64(2**64 - 1), "x: is beyond 2^53 (9007199254740992), where integers are no"),
        (np.longdouble(1) / 3, "x: has no exact double: "),
        (np.array([0.1]), "x: must be a single value, not an array of shape (1,): use tolist()"),
        (torch.ones(2, 2), "x: must be a single value, not an array of shape (2, 2): use tolist()"),
        (None, "x: must be a number, text, true or false, a list or a schedule, not None"),
        (1j, "x: must be a number, text, true or false, a list or a schedule, not complex 1j"),
        (np.complex64(1), "x: must be a number, text, true or false, a list or a schedule, not"),
        (np.datetime64("2024-01-01"), "x: must be a number, text, true or false"),
        (np.datetime64("2024-01-01T00:00:00", "ns"), "x: must be a number, text, true or false"),
        (np.timedelta64(5, "ns"), "x: must be a number, text, true or false"),
        (np.ma.masked, "x: must be a number, text, true or false"),
        (np.array(None), "x: must be a number, text, true or false"),
        (np.array((1, 2.0), dtype="i4,f8"), "x: must be a number, text, true or false"),
        (torch.tensor(1j), "x: must be a number, text, true or false"),
        (decimal.Decimal("0.1"), "x: must be a number, text, true or false"),
        (fractions.Fraction(1, 3), "x: must be a number, text, true or false"),
        (datetime.date(2024, 1, 1), "x: must be a number, text, true or false"),
        (b"x", "x: must be a number, text, true or false"),
        ({1, 2}, "x: must be a number, text, true or false"),
        (object, "x: must be a number, text, true or false"),
        ({"a": [1, {"b": math.inf}]}, "x.a[1].b: must be finite, not inf"),
        ({1: 2}, "x: has a key that is no text: int 1"),
    ],
)
def test_what_cannot_be_used_is_named(value: Any, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        to_plain(value, "x")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_loops_come_to_an_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidSpec, match="is nested more than 32 levels deep"):
        to_plain(loop, "x")


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3), torch.tensor(3), Size.SMALL])
def test_whole_numbers(value: Any) -> None:
    found = to_whole(value, "steps")
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [3.0, np.float64(3), True, np.bool_(True), "3", None, [3]])
def test_what_is_no_whole_number_is_named(value: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"^steps: must be "):
        to_whole(value, "steps")
