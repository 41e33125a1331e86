"""Domains as wide, narrow or high as doubles allow: every draw is a sound number of its domain."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import Sequence, Space
from hippo.model.spaces.domains import Integers, Template, Uniform, template_of
from hippo.model.spaces.sampling import position
from hippo.tune import Result, create_tuner
from tests.unit.tune.simulation import make_study

MOST = 1.7976931348623157e308
LEAST = 5e-324
LARGE = 2**53


def uniform(low: float, high: float, **log: bool) -> dict[str, Any]:
    return {"uniform": {"low": low, "high": high, **log}}


def integers(low: int, high: int, **more: Any) -> dict[str, Any]:
    return {"int": {"low": low, "high": high, **more}}


DOMAINS: dict[str, dict[str, Any]] = {
    "all": uniform(-MOST, MOST),
    "wide": uniform(-1.7e308, 1.7e308),
    "positive": uniform(0, MOST),
    "negative": uniform(-MOST, 0),
    "all_log": uniform(LEAST, MOST, log=True),
    "denormal": uniform(LEAST, 1e-323),
    "least": uniform(0, LEAST),
    "denormal_log": uniform(LEAST, 1e-320, log=True),
    "narrow": uniform(1, math.nextafter(1, 2)),
    "narrow_log": uniform(1, math.nextafter(1, 2), log=True),
    "narrow_high": uniform(math.nextafter(MOST, 0), MOST),
    "narrow_middle": uniform(1e100, math.nextafter(1e100, MOST)),
    "below_the_limit": uniform(-9e149, 9e149),
    "above_the_limit": uniform(0, 2e-150),
    "integers": integers(-LARGE, LARGE),
    "integers_log": integers(1, LARGE, log=True),
    "three": integers(-LARGE, LARGE, step=LARGE),
    "thirds": integers(-LARGE, LARGE - 1, step=3),
    "thirds_log": integers(1, LARGE, log=True, step=3),
    "pair": integers(LARGE - 1, LARGE),
    "pair_log": integers(LARGE - 1, LARGE, log=True),
}


def check(domain: Template, value: Any) -> None:
    assert type(value) is (int if isinstance(domain, Integers) else float)
    assert math.isfinite(value)
    assert domain.has(value), value


def of_piecewise(written: Any) -> list[Any]:
    """Returns the values of a hyper-parameter, including varied ones."""
    return [v for _, v in written["piecewise"]] if isinstance(written, dict) else [written]


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "random"},
        {"name": "random", "prefixFirst": {"candidates": 4}},
        {"name": "median", "every": 3, "prefixFirst": {"candidates": 4}},
        {"name": "pbt", "population": 8, "interval": 5},
        {"name": "pbt", "population": 8, "interval": 5, "factors": [1e300, 1e-300], "resample": 0},
        {"name": "optuna", "sampler": "tpe", "settings": {"n_startup_trials": 3}},
        {"name": "optuna", "sampler": "tpe", "settings": {"multivariate": True}},
        pytest.param(
            {"name": "optuna", "sampler": "gp", "settings": {"n_startup_trials": 7}},
            marks=pytest.mark.slow,
        ),
        {"name": "optuna", "sampler": "cmaes"},
        {"name": "optuna", "sampler": "qmc"},
        {"name": "optuna", "sampler": "qmc", "settings": {"qmc_type": "halton"}},
    ],
    ids=lambda algorithm: "-".join(map(str, algorithm.values())),
)
def test_every_value_lies_within_its_domain(algorithm: dict[str, Any]) -> None:
    trials: dict[str, Any] = {} if algorithm["name"] == "pbt" else {"max_trials": 8}
    tuner = create_tuner(make_study(algorithm, space=DOMAINS, steps=12, **trials))
    points: list[dict[str, Any]] = []
    while not tuner.finished:
        for decision in tuner.decide(2):
            tuner.apply(decision)
            if decision.hyperparameters is not None:
                points.append(decision.hyperparameters)
            if decision.kind in ("suggest", "promote"):
                for step in (*decision.marks, decision.steps):
                    value = float(decision.trial * 7919 % 13)
                    tuner.tell(Result(decision.trial, step, value))
    assert len(points) >= 8
    for point in points:
        Sequence.of(json.loads(json.dumps(point, allow_nan=False)), 12)
        for name, written in DOMAINS.items():
            for value in of_piecewise(point[name]):
                check(template_of(written), value)
    if "factors" not in algorithm:
        for name in ("all", "wide", "positive", "all_log", "integers", "integers_log", "thirds"):
            assert len({str(point[name]) for point in points}) > 3, name


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def domains(draw: st.DrawFn) -> Uniform | Integers:
    log = draw(st.booleans())
    if draw(st.booleans()):
        numbers = st.floats(LEAST, MOST) if log else FINITE
        low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
        return Uniform(low, high, log)
    ends = st.integers(1 if log else -LARGE, LARGE)
    low, high = sorted(draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    return Integers(low, high, draw(st.integers(1, LARGE)), log=log)


@given(domains(), st.integers(0, 99), st.integers(1, 9), st.floats(0, 1))
def test_any_domain_draws_levels_and_positions_within_itself(
    domain: Uniform | Integers, index: int, levels: int, way: float
) -> None:
    drawn = domain.draw(0, index, "x")
    check(domain, drawn)
    check(domain, domain.nearest_level(drawn, levels))
    check(domain, domain.at(way))
    assert 0 <= domain.position(drawn) <= 1
    (dimension, *_) = [*Space({"x": _written(domain)}).dimensions, None]
    if dimension is not None:
        assert math.isfinite(dimension.inward(drawn))
        outward = dimension.admit(dimension.outward(dimension.inward(drawn)))
        assert domain.has(outward)
        check(domain, type(drawn)(dimension.middle))


def _written(domain: Uniform | Integers) -> dict[str, Any]:
    if isinstance(domain, Uniform):
        return uniform(domain.low, domain.high, log=domain.log)
    return integers(domain.low, domain.high, log=domain.log, step=domain.step)


@given(st.lists(FINITE, min_size=3, max_size=3, unique=True))
def test_positions_are_in_order(numbers: list[float]) -> None:
    low, x, high = sorted(numbers)
    assert position(low, high, low) == 0 <= position(low, high, x) <= 1
    assert position(low, high, high) == 1
