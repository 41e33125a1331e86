"""Spaces: enumeration, seeded draws, and fork steps."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from typing import Any

import pytest

from hippo.model import InvalidSpec, Sequence, Space
from hippo.model.spaces.sampling import between_log, permuted, unit
from tests import strategies

STEPS = 60


def space_of(**domains: Any) -> Space:
    return Space.of(domains, STEPS)


def text(point: Any) -> str:
    return json.dumps(point, sort_keys=True)


def test_grid_order() -> None:
    space = space_of(
        b={"choices": [1, 2]}, a={"int": {"low": 0, "high": 4, "step": 2}}, c={"choices": ["x"]}
    )
    assert space.names == ("a", "b", "c")
    assert space.size == 6
    assert [tuple(point.values()) for point in space.enumerate()] == [
        (a, b, "x") for a in (0, 2, 4) for b in (1, 2)
    ]
    assert all(tuple(point) == ("a", "b", "c") for point in space.enumerate())


def test_domains_within_schedules_are_enumerated() -> None:
    warmup = {
        "from": 0,
        "to": {"choices": [0.1, 0.2]},
        "steps": {"int": {"low": 5, "high": 6}},
        "then": {"choices": [1, {"linear": {"initial": 1, "final": 0, "steps": 5}}]},
    }
    multistep = {"initial": 1, "gamma": 0.1, "milestones": {"choices": [[5], [5, 9]]}}
    piecewise = [[0, 1], [7, {"choices": [3, 4]}]]
    space = space_of(
        x={"choices": [9, {"warmup": warmup}, {"multistep": multistep}, {"piecewise": piecewise}]}
    )
    assert space.size == 1 + 8 + 2 + 2
    points = [point["x"] for point in space.enumerate()]
    assert len({text(point) for point in points}) == 13
    assert points[0] == 9
    # names sorted, the last fastest: steps, then, to
    assert [
        (p["warmup"]["steps"], type(p["warmup"]["then"]), p["warmup"]["to"]) for p in points[1:9]
    ] == list(itertools.product((5, 6), (int, dict), (0.1, 0.2)))
    assert points[9:11] == [
        {"multistep": {**multistep, "milestones": milestones}} for milestones in ([5], [5, 9])
    ]
    assert points[12] == {"piecewise": [[0, 1], [7, 4]]}
    for point in points:
        Sequence.of({"x": point}, STEPS)


def test_a_continuous_space_cannot_be_enumerated() -> None:
    cosine = {"cosine": {"initial": {"uniform": {"low": 0, "high": 1}}, "final": 0, "steps": 5}}
    space = space_of(a={"choices": [1]}, b={"choices": [1, cosine]})
    assert space.size is None
    assert space.continuous == ("b",)
    with pytest.raises(InvalidSpec, match=r"^b: is continuous, so that grid cannot enumerate it"):
        space.enumerate()


@pytest.mark.parametrize("size", [*range(1, 20), 64, 65, 1000])
def test_permutations(size: int) -> None:
    orders = [[permuted(seed, index, size) for index in range(size)] for seed in range(3)]
    for order in orders:
        assert sorted(order) == list(range(size))
    if size >= 10:
        assert len(set(map(tuple, orders))) == 3
        assert list(range(size)) not in orders


def test_finite_spaces_are_drawn_without_replacement() -> None:
    space = space_of(a={"choices": [1, 2, 3]}, b={"int": {"low": 1, "high": 7}})
    drawn = [space.sample(5, index) for index in range(21)]
    assert {text(point) for point in drawn} == {text(point) for point in space.enumerate()}
    assert drawn == [space.sample(5, index) for index in range(21)]
    assert drawn != [space.sample(6, index) for index in range(21)]
    with pytest.raises(IndexError, match="21 points"):
        space.sample(5, 21)


def test_integers_on_a_logarithmic_scale_are_weighted_and_still_distinct() -> None:
    domain = {"int": {"low": 1, "high": 1000, "log": True}}
    space = space_of(n=domain, m={"choices": [0, 1]})
    drawn = [space.sample(0, index) for index in range(300)]
    assert len({text(point) for point in drawn}) == 300
    assert sum(point["n"] <= 30 for point in drawn[:40]) > 10  # a uniform draw expects 1.2
    assert space_of(n=domain, m={"choices": [0, 1]}).sample(0, 250) == drawn[250]
    small = space_of(n={"int": {"low": 1, "high": 9, "step": 2, "log": True}})
    assert sorted(small.sample(3, index)["n"] for index in range(5)) == [1, 3, 5, 7, 9]


def test_draws_lie_within_bounds_and_have_six_digits() -> None:
    space = space_of(
        u={"uniform": {"low": -1, "high": 3}},
        g={"uniform": {"low": 1e-5, "high": 1e-3, "log": True}},
        c={
            "choices": [
                1,
                2,
                {"exponential": {"initial": {"uniform": {"low": 1, "high": 2}}, "gamma": 0.5}},
            ]
        },
    )
    points = [space.sample(7, index) for index in range(2_000)]
    assert points[100] == space.sample(7, 100)
    for point in points:
        assert -1 <= point["u"] <= 3
        assert 1e-5 <= point["g"] <= 1e-3
        assert all(float(f"{point[name]:.6g}") == point[name] for name in "ug")
    assert 0.45 < sum(point["u"] < 1 for point in points) / 2_000 < 0.55
    assert 0.45 < sum(point["g"] < 1e-4 for point in points) / 2_000 < 0.55
    kinds = Counter(text(point["c"])[:1] for point in points)
    assert all(600 < count < 740 for count in kinds.values())
    inside = {p["c"]["exponential"]["initial"] for p in points if isinstance(p["c"], dict)}
    assert len(inside) > 500


def test_bounds_with_more_digits_are_kept() -> None:
    space = space_of(x={"uniform": {"low": 0.12345678, "high": 0.12345679}})
    assert all(0.12345678 <= space.sample(0, i)["x"] <= 0.12345679 for i in range(50))


def test_draws_stay_what_they_are() -> None:
    """A study repeated with a later release must draw the same trials."""
    assert unit(3, 4, "lr") == 0.051082001385371334
    assert between_log(1e-5, 1e-1, 0.375) == 0.000316228
    assert [permuted(1, index, 10) for index in range(10)] == [8, 4, 3, 6, 7, 2, 1, 9, 5, 0]


def forks_by_brute_force(space: Space, sequence: Sequence) -> tuple[int, ...]:
    others = (Sequence.of(point, sequence.steps) for point in space.enumerate())
    agreements = {sequence.agreement(other) for other in others}
    return tuple(sorted(agreements - {0, sequence.steps}))


def with_domains(written: Any, rng: random.Random) -> Any:
    """Replaces some numbers of a schedule by choices."""
    if isinstance(written, bool | str) or (isinstance(written, list) and not written):
        return written
    if isinstance(written, int | float):
        other = rng.choice([5, 6, 8])
        if rng.random() < 0.3 and other != written:
            return {"choices": [written, other]}
        return written
    if isinstance(written, dict):
        return {
            key: item if key in ("milestones", "gamma") else with_domains(item, rng)
            for key, item in written.items()
        }
    return [[start, with_domains(item, rng)] for start, item in written]


@pytest.mark.slow
def test_forks_are_where_points_of_the_space_part() -> None:
    rng = random.Random(4)
    nested = 0
    for _ in range(60):
        writer = strategies.Writer(rng)
        domains: dict[str, Any] = {}
        for name in ("a", "b"):
            one = writer.written(1)
            choices = [one, writer.related(one), writer.written(0)]
            if rng.random() < 0.5:
                choices = [with_domains(choice, rng) for choice in choices]
            distinct = {text(choice): choice for choice in choices}
            domains[name] = {"choices": list(distinct.values())}
        space = Space.of(domains, STEPS)
        assert space.size is not None
        if space.size > 200:
            continue
        nested += any("choices" in text(domain["choices"]) for domain in domains.values())
        for index in rng.sample(range(space.size), min(space.size, 5)):
            sequence = Sequence.of(space.pick(index), STEPS)
            assert space.fork_steps(sequence) == forks_by_brute_force(space, sequence), domains
    assert nested > 10


def test_forks_of_continuous_domains_are_where_they_begin_to_matter() -> None:
    uniform = {"uniform": {"low": 0.1, "high": 0.9}}
    domains = [
        ({"multistep": {"initial": 1, "gamma": uniform, "milestones": [30]}}, (30,)),
        (
            {
                "warmup": {
                    "from": 0,
                    "steps": 5,
                    "to": 1,
                    "then": {"exponential": {"initial": 1, "gamma": uniform}},
                }
            },
            (6,),
        ),
        ({"piecewise": [[0, 1], [40, uniform]]}, (40,)),
        ({"cosine": {"initial": uniform, "final": 0, "steps": 9}}, ()),
        ({"linear": {"initial": 1, "final": uniform, "steps": 9}}, (1,)),
    ]
    for domain, expected in domains:
        space = space_of(x={"choices": [domain]})
        for index in range(5):
            sequence = Sequence.of(space.sample(0, index), STEPS)
            assert space.fork_steps(sequence) == expected
    both = space_of(x={"choices": [1.0, *(domain for domain, _ in domains)]}, y=uniform)
    assert both.fork_steps(Sequence.of({"x": 1, "y": 0.5}, STEPS)) == (1, 30, 40)
    assert both.fork_steps(Sequence.of({"x": 1, "z": 0.5}, STEPS)) == (1, 30, 40)


def test_static_hyperparameters() -> None:
    assert space_of(w={"choices": [8, 16], "static": True}, x={"choices": [1]}).static == {"w"}


COSINE = {"cosine": {"initial": 0.1, "final": 0, "steps": 5}}

INVALID = [
    ({}, "spec.space: is empty; name at least one hyper-parameter"),
    ([1], "spec.space: must map hyper-parameters to domains, not a list"),
    ({"a b": 1}, "spec.space: 'a b' cannot name a hyper-parameter; use letters, digits and "
                 "underscores, beginning with a letter"),
    ({"x": 0.1}, "spec.space.x: is a plain value, not a domain; write {choices: [0.1]}"),
    ({"x": [1, 2]}, "spec.space.x: is a list, not a domain; write {choices: [...]}"),
    ({"x": None}, "spec.space.x: must be a domain (choices, int, uniform), not null"),
    ({"x": COSINE}, "spec.space.x: is a schedule, not a domain; write {choices: [{cosine: ...}]}"),
    ({"x": {"choice": [1]}},
     "spec.space.x: unknown domain 'choice'; known: choices, int, uniform; write {choices: [...]}"),
    ({"x": {"static": True}}, "spec.space.x: has no domain; known: choices, int, uniform"),
    ({"x": {"choices": []}}, "spec.space.x.choices: is empty"),
    ({"x": {"choices": 3}}, "spec.space.x.choices: must be a list, not 3"),
    ({"x": {"choices": [1, 2, 1.0]}}, "spec.space.x.choices[2]: is the same as choices[0]"),
    ({"x": {"choices": [1], "weight": 2}}, "spec.space.x: unknown field beside a domain: weight"),
    ({"x": {"choices": [1], "int": {}}}, "spec.space.x: must hold one domain, not choices, int"),
    ({"x": {"choices": [None, {"cosin": {}}]}},
     "spec.space.x.choices[0]: must be a number, text, true or false, or a list of these, "
     "not null\n"
     "spec.space.x.choices[1]: unknown schedule 'cosin'; known: cosine, cyclic, exponential, "
     "linear, multistep, piecewise, polynomial, step, warmup; did you mean cosine?"),
    ({"x": {"choices": [1, 2, {"cosine": {"initial": 1, "final": 0, "steps": 0}}]}},
     "spec.space.x.choices[2].cosine.steps: must be at least 1"),
    ({"x": {"choices": [{"multistep": {"initial": 1, "gamma": 0.1,
                                       "milestones": [{"int": {"low": 1, "high": 9}}]}}]}},
     "spec.space.x.choices[0].multistep.milestones[0]: must be an integer; for several lists to "
     "choose from, write milestones: {choices: [[10], [20]]}"),
    ({"x": {"choices": [1, COSINE], "static": True}},
     "spec.space.x.choices[1]: is no plain value, but x is static"),
    ({"x": {"choices": [1], "static": "yes"}},
     'spec.space.x.static: must be true or false, not the text "yes"'),
    ({"x": {"uniform": {"low": 1, "high": 1}}},
     "spec.space.x.uniform: low (1) must be less than high (1)"),
    ({"x": {"uniform": {"low": 0, "high": 1, "log": True}}},
     "spec.space.x.uniform.low: must be greater than 0, because log is true"),
    ({"x": {"uniform": {"low": float("-inf"), "hi": 1, "log": 1}}},
     "spec.space.x.uniform.hi: unknown field; known: low, high, log\n"
     "spec.space.x.uniform.low: must be finite, not -inf\n"
     "spec.space.x.uniform.high: is missing\n"
     "spec.space.x.uniform.log: must be true or false, not 1"),
    ({"x": {"int": {"low": 1.5, "high": 3, "step": 0}}},
     "spec.space.x.int.low: must be an integer, not 1.5\n"
     "spec.space.x.int.step: must be at least 1"),
    ({"x": {"int": [1, 2]}},
     "spec.space.x.int: must be a mapping with low and high, not a list; write {low: 1, high: 2}"),
    ({"x": {"choices": [{"cosine": {"initial": {"uniform": {"low": 2, "high": 1}}, "final": 0,
                                    "steps": {"uniform": {"low": 1, "high": 9}}}}]}},
     "spec.space.x.choices[0].cosine.initial.uniform: low (2) must be less than high (1)\n"
     "spec.space.x.choices[0].cosine.steps.uniform: offers fractions where only integers may "
     "stand; use int"),
    ({"x": {"choices": [{"cosine": {"initial": {"choices": [1, "a"]}, "final": 0,
                                    "steps": {"int": {"low": 0, "high": 9}}}}]}},
     'spec.space.x.choices[0].cosine.initial.choices[1]: must be a number, not the text "a"\n'
     "spec.space.x.choices[0].cosine.steps.int.low: must be at least 1"),
    ({"x": {"choices": [1, {"exponential": {"initial": 1, "gamma": {"uniform": {
        "low": 0.5, "high": 1e9}}}}]}},
     "spec.space.x.choices[1]: grows beyond the largest double within 60 steps"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "message"), INVALID)
def test_what_is_refused(written: Any, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        Space.of(written, STEPS)
    assert str(caught.value) == message


def test_a_space_beyond_all_counting_is_drawn_from_in_every_place() -> None:
    """The space's size has more digits than Python prints."""
    written = {f"x{i:03}": {"int": {"low": 0, "high": 2**50}} for i in range(400)}
    space = Space.of(written, 10)
    points = [space.sample(7, index) for index in range(20)]
    assert all(len({point[name] for point in points}) == 20 for name in space.names)
    assert space.sample(7, 3) == points[3]
