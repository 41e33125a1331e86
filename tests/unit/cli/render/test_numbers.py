"""Values have as many digits as tell one from another, and schedules can be read."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.cli.render.numbers import describe_value, describe_values, digits_for, number


@pytest.mark.parametrize(
    ("value", "among", "text"),
    [
        (1e-9, (), "1e-09"),
        (2.7613e-10, (), "2.7613e-10"),
        (0.956390001, (), "0.95639"),
        (0.956390001, (0.95639, 0.5), "0.956390001"),
        (0.9999999, (), "0.9999999"),  # and not 1
        (1.0, (), "1"),
        (3.0000000000000004, (), "3"),
        (123456.7, (), "1.2346e+05"),
        (123456.7, (123456.8,), "123456.7"),
        (None, (1.0,), "-"),
        (math.inf, (1.0,), "inf"),
    ],
)
def test_numbers(value: float | None, among: tuple[float, ...], text: str) -> None:
    assert number(value, among) == text


@given(st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), max_size=20))
def test_values_that_differ_look_different(values: list[float]) -> None:
    texts = {value: number(value, values) for value in values}
    assert len(set(texts.values())) == len(texts)
    assert all(math.isclose(float(text), v, rel_tol=1e-4) for v, text in texts.items())
    assert 5 <= digits_for(values) <= 17


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345678, "0.12345678"),
        (1.0, "1"),
        (1e-5, "1e-05"),
        (True, "true"),
        ("adam", "adam"),
        ("0.1", '"0.1"'),  # not the number
        ("two words", '"two words"'),
        ([0.9, 0.999], "[0.9, 0.999]"),
        ({"piecewise": [[0, 0.1], [4, 0.01]]}, "0.1@0|0.01@4"),
        (
            {"piecewise": [[0, 0.1], [4, {"piecewise": [[0, 0.2], [2, 0.3]]}]]},
            "0.1@0|(0.2@0|0.3@2)@4",
        ),
        (
            {
                "warmup": {
                    "from": 0,
                    "steps": 4,
                    "to": 0.1,
                    "then": {"piecewise": [[0, 0.1], [5, 0.2]]},
                }
            },
            "warmup(from 0, steps 4, to 0.1, then (0.1@0|0.2@5))",
        ),
        (
            {"piecewise": [[0, {"cosine": {"initial": 1, "final": 0, "steps": 9}}], [9, 0.5]]},
            "cosine(initial 1, final 0, steps 9)@0|0.5@9",
        ),
        (
            {"multistep": {"initial": 1, "gamma": 0.1, "milestones": [3, 6]}},
            "multistep(initial 1, gamma 0.1, milestones [3, 6])",
        ),
    ],
)
def test_values_and_schedules(value: Any, text: str) -> None:
    assert describe_value(value) == text
    assert describe_values({"lr": value, "b": 1}) == f"b=1  lr={text}"
