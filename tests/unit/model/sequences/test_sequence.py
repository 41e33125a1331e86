"""Sequences: values, refusals, and time proportional to pieces rather than steps."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from hippo.model import InvalidSpec, Sequence
from tests import strategies
from tests.unit.model import oracle

STEPS = 90


def test_changes_are_where_another_piece_begins() -> None:
    written = {
        "lr": {"warmup": {"from": 0.0, "steps": 5, "to": 0.1, "then": 0.1}},
        "momentum": {"piecewise": [[0, 0.9], [30, 0.5], [60, 0.9]]},
        "decay": {"cosine": {"initial": 0.1, "final": 0.0, "steps": 100}},
        "batch_size": 8,
    }
    assert Sequence.of(written, 100).changes() == [5, 30, 60]
    assert Sequence.of(written, 60).changes() == [5, 30]
    short = {"lr": {"piecewise": [[0, 0.1], [2, 0.2], [5, 0.3]]}}
    assert Sequence.of(short, 7).changes() == [2, 5]
    ramp = {"linear": {"initial": 0.0, "final": 1.0, "steps": 4}}
    assert Sequence.of({"lr": ramp}, 4).changes() == []
    assert Sequence.of({"lr": ramp}, 8).changes() == [4]
    apart = {"lr": {"piecewise": [[0, 0.3], [1, 0.1], [2, 0.7], [3, 0.2]]}}
    assert Sequence.of(apart, 50).changes() == [3], "three single values, then a constant"


@given(strategies.values_and_schedules())
def test_values_are_those_of_the_table(written: Any) -> None:
    sequence = Sequence.of({"x": written}, STEPS)
    for step, expected in enumerate(oracle.values(written, STEPS)):
        assert oracle.same(sequence.values(step)["x"], expected), step


def test_values_in_any_order() -> None:
    written = {
        "lr": {
            "warmup": {
                "from": 0,
                "steps": 5,
                "to": 0.1,
                "then": {"step": {"initial": 0.1, "gamma": 0.5, "every": 7}},
            }
        },
        "b": {"piecewise": [[0, 8], [11, "x"]]},
    }
    sequence = Sequence.of(written, 60)
    steps = list(range(60)) * 3
    random.Random(0).shuffle(steps)
    for step in steps:
        expected = {name: oracle.value(item, step) for name, item in written.items()}
        assert sequence.values(step) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0.1, 0.1),
        (64.0, 64),
        (-0.0, 0),
        (1e300, int(1e300)),
        (True, True),
        ("adam", "adam"),
        ([0.9, 1.0], [0.9, 1]),
        ([], []),
        (2**53, 2**53),
        (0.5, 0.5),
    ],
)
def test_what_a_trainer_gets(written: Any, expected: Any) -> None:
    assert oracle.same(Sequence.of({"x": written}, 3).values(2)["x"], expected)


def test_products_of_decimals_are_decimals() -> None:
    sequence = Sequence.of(
        {"lr": {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [60, 90]}}}, 120
    )
    assert [sequence.values(t)["lr"] for t in (59, 60, 90)] == [0.1, 0.01, 0.001]
    assert sequence.run_starts("lr") == [(0, 0.1), (60, 0.01), (90, 0.001)]


def test_values_end_where_the_sequence_does() -> None:
    sequence = Sequence.of({"x": 1}, 5)
    for step in (-1, 5):
        with pytest.raises(IndexError, match="outside"):
            sequence.values(step)
    for step in (0, 6):
        with pytest.raises(IndexError, match="no key"):
            sequence.key(step, "s")
    with pytest.raises(KeyError):
        sequence.runs("y")


def test_run_starts() -> None:
    def starts(written: Any) -> Any:
        return Sequence.of({"x": written}, 100).run_starts("x")

    assert starts(64) == [(0, 64)]
    assert starts(
        {
            "piecewise": [
                [0, 64],
                [3, 128],
                [50, {"linear": {"initial": 128, "final": 128, "steps": 9}}],
            ]
        }
    ) == [(0, 64), (3, 128)]
    assert starts({"cosine": {"initial": 1, "final": 0, "steps": 100}}) is None
    assert starts({"piecewise": [[0, "a"], [50, "b"], [90, "a"]]}) == [
        (0, "a"),
        (50, "b"),
        (90, "a"),
    ]
    short = starts({"linear": {"initial": 0, "final": 4, "steps": 4}})
    assert short == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_sequence_is_a_value() -> None:
    written = {"x": {"piecewise": [[0, 1], [5, 2]]}, "y": "a"}
    sequence = Sequence.of(written, 20)
    same = Sequence.of({"y": "a", "x": {"step": {"initial": 1, "gamma": 2, "every": 5}}}, 10)
    assert sequence != same
    assert Sequence.of({"y": "a", "x": {"piecewise": [[0, 1.0], [5, 2], [30, 7]]}}, 20) == sequence
    assert len({sequence, Sequence.of(written, 20), same}) == 2
    assert sequence != Sequence.of({"x": written["x"], "z": "a"}, 20)
    for clone in (copy.deepcopy(sequence), pickle.loads(pickle.dumps(sequence))):
        assert clone == sequence
        assert clone.key(7, "s") == sequence.key(7, "s")
    written["x"]["piecewise"][0][1] = 3  # type: ignore[index]
    assert sequence.hyperparameters["x"] == {"piecewise": [[0, 1], [5, 2]]}
    assert sequence != 1


INVALID = [
    (
        {"x": None},
        "hyperparameters.x: must be a number, text, true or false, or a list of these, not null",
    ),
    ({"x": float("nan")}, "hyperparameters.x: must be finite, not nan"),
    (
        {"x": 2**53 + 1},
        "hyperparameters.x: is beyond 2^53 (9007199254740992), where integers are no longer exact",
    ),
    (
        {"x": [1, None]},
        "hyperparameters.x[1]: must be a number, text, true or false, or a list of these, not null",
    ),
    ({"x": {}}, "hyperparameters.x: must hold exactly one schedule, not none"),
    (
        {"x": {"cosin": 1}},
        "hyperparameters.x: unknown schedule 'cosin'; known: cosine, cyclic, "
        "exponential, linear, multistep, piecewise, polynomial, step, warmup; did you mean cosine?",
    ),
    (
        {"x": {"cosine": 1}},
        "hyperparameters.x.cosine: must be a mapping with initial, final, steps, not 1",
    ),
    (
        {"x": {"choices": [1]}},
        "hyperparameters.x: is a domain; a sequence holds values and schedules only",
    ),
    (
        {"x": {"step": {"initial": True, "gamma": "1e-5", "every": 2.5}}},
        "hyperparameters.x.step.initial: must be a number, not true\n"
        'hyperparameters.x.step.gamma: must be a number, not the text "1e-5"\n'
        "hyperparameters.x.step.every: must be an integer, not 2.5",
    ),
    (
        {"x": {"linear": {"initial": 0, "steps": 0, "stop": 1}}},
        "hyperparameters.x.linear.stop: unknown field; known: initial, final, steps; did you mean "
        "final?\n"
        "hyperparameters.x.linear.final: is missing\n"
        "hyperparameters.x.linear.steps: must be at least 1",
    ),
    (
        {"x": {"multistep": {"initial": 1, "gamma": 1, "milestones": [5, 5]}}},
        "hyperparameters.x.multistep.milestones[1]: must be greater than the one before it (5), "
        "not 5",
    ),
    (
        {
            "x": {
                "piecewise": [[1, 0.1], [0, {"cyclic": {"low": 0, "high": 1, "up": 0, "down": -1}}]]
            }
        },
        "hyperparameters.x.piecewise[1][1].cyclic.up: must be at least 1\n"
        "hyperparameters.x.piecewise[1][1].cyclic.down: must be at least 1\n"
        "hyperparameters.x.piecewise[0][0]: must be 0: the first entry begins there, not at 1\n"
        "hyperparameters.x.piecewise[1][0]: must be greater than the one before it (1), not 0",
    ),
    (
        {"x": {"piecewise": []}},
        "hyperparameters.x.piecewise: is empty; the first entry begins at step 0",
    ),
    (
        {"x": {"piecewise": [0]}},
        "hyperparameters.x.piecewise[0]: must be [step, value or schedule]",
    ),
    (
        {"x": {"polynomial": {"initial": 0, "final": 1, "steps": 5, "power": 0.5}}},
        "hyperparameters.x.polynomial.power: must be an integer, not 0.5",
    ),
    (
        {"x": {"exponential": {"initial": 1, "gamma": 2}}},
        "hyperparameters.x: grows beyond the largest double within 2,000 steps",
    ),
    (
        {"a-b": 1, "y": 1},
        "hyperparameters: 'a-b' cannot name a hyper-parameter; use letters, "
        "digits and underscores, beginning with a letter",
    ),
]


@pytest.mark.parametrize(("written", "message"), INVALID)
def test_what_is_refused(written: Any, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Sequence.of(written, 2000)
    assert str(caught.value) == message


def test_nesting_has_an_end() -> None:
    written: Any = 1
    for _ in range(40):
        written = {"piecewise": [[0, written]]}
    with pytest.raises(InvalidSpec, match="nested more than 32 levels deep"):
        Sequence.of({"x": written}, 10)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidSpec, match="nested more than 32 levels deep"):
        Sequence.of({"x": loop}, 10)


@pytest.mark.slow
def test_too_many_pieces_are_refused() -> None:
    written = {"x": {"step": {"initial": 0.1, "gamma": 0.9999, "every": 2}}}
    assert len(Sequence.of(written, 20_000).runs("x").pieces.ends) == 10_000
    with pytest.raises(InvalidSpec) as caught:
        Sequence.of(written, 1_000_000, path="here")
    assert str(caught.value).startswith("here.x: has more than 10,000 pieces within 1,000,000 st")
    underflows = {"x": {"step": {"initial": 0.1, "gamma": 0.5, "every": 2}}}
    assert Sequence.of(underflows, 1_000_000).values(999_999) == {"x": 0}


SCHEDULES = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [60, 90]}},
    {"exponential": {"initial": 0.1, "gamma": 0.95}},
    {"linear": {"initial": 0.1, "final": 0.0, "steps": 120}},
    {"cosine": {"initial": 0.1, "final": 0.0, "steps": 120}},
    {"polynomial": {"initial": 0.1, "final": 0.0, "steps": 120, "power": 2}},
    {"cyclic": {"low": 0.001, "high": 0.1, "up": 20, "down": 20}},
    {
        "warmup": {
            "from": 0.0,
            "steps": 5,
            "to": 0.1,
            "then": {"cosine": {"initial": 0.1, "final": 0.0, "steps": 115}},
        }
    },
]


@pytest.mark.parametrize("written", SCHEDULES)
def test_a_million_steps_have_no_more_runs_than_two_hundred(written: Any) -> None:
    few = Sequence.of({"x": written}, 200)
    many = Sequence.of({"x": written}, 1_000_000)
    assert len(many.runs("x").ends) <= len(few.runs("x").ends) + 1
    assert many.agreement(few) == 200
    assert many.key(200, "s") == few.key(200, "s")


@pytest.mark.slow
def test_ten_thousand_trials_have_as_many_keys_as_there_are_points() -> None:
    rng = random.Random(0)
    of_choices = [
        {
            "lr": rng.choice(SCHEDULES),
            "momentum": rng.choice([0.9, {"piecewise": [[0, 0.7], [40, 0.9]]}]),
            "batch_size": rng.choice([64, 128]),
        }
        for _ in range(10_000)
    ]
    of_floats = [{"lr": rng.random(), "wd": rng.random()} for _ in range(10_000)]
    for trials in (of_choices, of_floats):
        sequences = [Sequence.of(written, 100) for written in trials]
        keys = {sequence.key(100, "signature") for sequence in sequences}
        assert len(keys) == (10_000 if trials is of_floats else len(SCHEDULES) * 4)


def test_functions_that_hardly_move_are_not_cut_to_pieces_without_end() -> None:
    """A double changes every 22 steps here: constants for a while, then the function itself."""
    slow = {"linear": {"initial": 1, "final": 1.00000000001, "steps": 1_000_000}}
    sequence = Sequence.of({"x": slow}, 1_000_000)
    assert 1_000 < len(sequence.runs("x").ends) < 2_000
    assert sequence.agreement(Sequence.of({"x": 1}, 1_000_000)) == 12


def test_numbers_of_other_libraries_are_numbers() -> None:
    written = {"linear": {"initial": np.float64(0.1), "final": 0.3, "steps": 2}}
    for one, same in (
        (np.float64(0.1), 0.1),
        (written, {"linear": {**written["linear"], "initial": 0.1}}),
    ):
        assert Sequence.of({"x": one}, 5.0) == Sequence.of({"x": same}, 5)  # type: ignore[arg-type]


def test_constant_values_are_not_made_anew() -> None:
    constant = Sequence.of({"lr": 0.1, "b": 64, "m": 0.9}, 1_000_000)
    assert constant.values(7) is constant.values(8)
