"""A study's cost is counted before anything is expanded, and never underestimated."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import InvalidSpec, budget, parse_study
from hippo.model.bounds import MAX_PIECES, MAX_SEQUENCE_PIECES, MAX_SPACE_PIECES, MAX_TRIALS
from hippo.model.budget import cost_of, count_pieces
from hippo.model.sequences import sequence
from hippo.model.sequences.interning import Interned
from hippo.model.sequences.pieces import PieceBuilder, TooManyPiecesError
from hippo.model.sequences.sequence import expand, read_concrete
from tests import strategies
from tests.unit.kube.memory import study_document

NUMBERS = st.sampled_from([0.1, 1.0, -3.0, 1e300, 5e-324, 0.0, 1.7e308])
GAMMAS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 0.999, 1.5, -2.0, 1.0000000001, 1e-300, 1e300])
COUNTS = st.sampled_from([1, 2, 3, 8, 9, 10, 100, 10**6])
GROWING = st.recursive(
    st.one_of(
        NUMBERS,
        st.builds(lambda i, g, n: {"step": {"initial": i, "gamma": g, "every": n}},
                  NUMBERS, GAMMAS, COUNTS),
        st.builds(lambda i, g: {"exponential": {"initial": i, "gamma": g}}, NUMBERS, GAMMAS),
        st.builds(lambda i, g, m: {"multistep": {"initial": i, "gamma": g,
                                                 "milestones": sorted(m)}},
                  NUMBERS, GAMMAS, st.sets(st.integers(0, 500), max_size=6)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda n, then: {"warmup": {"from": 0.0, "steps": n, "to": 1.0, "then": then}},
                  COUNTS, inner),
        st.builds(lambda starts, nodes: {"piecewise": [
            [start, node] for start, node in zip([0, *sorted(starts)], nodes, strict=False)]},
            st.sets(st.integers(1, 500), max_size=3), st.lists(inner, min_size=4, max_size=4)),
    ),
    max_leaves=4,
)  # fmt: skip
HORIZONS = st.sampled_from([1, 2, 9, 60, 499, 1000, 10**6, 10**12])


@pytest.mark.slow
@given(st.one_of(GROWING, strategies.schedules()), HORIZONS)
def test_a_count_is_never_too_low_and_overflow_is_known_beforehand(
    written: Any, steps: int
) -> None:
    node = read_concrete(written, "x")
    builder = PieceBuilder()
    most = count_pieces(written, steps, formula=1, short=1)
    try:
        node.expand(builder, 0, steps)
    except TooManyPiecesError:
        assert most > MAX_PIECES
    except OverflowError:
        assert node.overflows(steps)
    else:
        assert len(builder.ends) <= most
        assert not node.overflows(steps)
    assert most <= count_pieces(written, steps)


@pytest.mark.slow
@given(strategies.spaces())
def test_a_space_costs_at_least_its_pieces(space: dict[str, Any]) -> None:
    for domain in space.values():
        pieces = sum(
            len(expand(read_concrete(choice, "x"), 100, "x").pieces.ends)
            for choice in domain["choices"]
        )
        assert pieces <= cost_of(domain, 100).pieces


STEPS = {"step": {"initial": 0.1, "gamma": 0.9999, "every": 10}}


def _schedules(count: int) -> list[Any]:
    return [{"step": {"initial": 0.1 + i, "gamma": 0.9999, "every": 10}} for i in range(count)]


def _refusal(**spec: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidSpec) as caught:
        parse_study(study_document("s", **spec))
    return list(caught.value.errors)


PLANE = {"x": {"uniform": {"low": 0, "high": 1}}, "y": {"uniform": {"low": 0, "high": 1}}}
HUGE = {f"x{i}": {"int": {"low": 0, "high": 2**50}} for i in range(400)}
NESTED = {
    "lr": {"choices": [{"step": {"initial": {"uniform": {"low": 0.1, "high": 1}}, "gamma": 0.9999,
                                 "every": 10}}]}
}  # fmt: skip
DEEP: Any = 1
for _ in range(60):
    DEEP = {"choices": [DEEP, 2]}
TOO_MUCH: dict[str, tuple[dict[str, Any], str, str]] = {
    "pieces": (
        {"steps": 100_000, "space": {"y": {"choices": [1]}, "x": {"choices": _schedules(201)}}},
        "spec.space.x",
        "2,010,001 pieces of the space",
    ),
    "points": (
        {
            "steps": 100_000,
            "space": {
                "x": {
                    "choices": [
                        {"step": {"initial": {"choices": list(range(1, 250))}, "gamma": 0.9999,
                                  "every": 10}}
                    ]
                }
            },
        },
        "spec.space.x",
        "pieces of the space",
    ),
    "formulas": (
        {
            "steps": 80_000,
            "space": {
                "x": {
                    "choices": [
                        {"piecewise": [
                            [8 * i, {"linear": {"initial": k, "final": 3, "steps": 100 + i % 7}}]
                            for i in range(5000)
                        ]}
                        for k in range(14)
                    ]
                }
            },
        },
        "",
        "the document holds more than 200,000 values and keys: make it smaller",
    ),
    "options": (
        {"space": {"x": {"choices": list(range(20_001))}}},
        "spec.space",
        "has 20,001 choices in all, more than 20,000: write ranges (int, uniform) in their place",
    ),
    "hyper-parameters": (
        {"space": {f"x{i}": {"choices": [1]} for i in range(1001)}},
        "spec.space",
        "has 1,001 hyper-parameters, more than 1,000",
    ),
    "domains": (
        {
            "space": {
                "x": {"choices": [{"piecewise": [
                    [i, {"uniform": {"low": 0, "high": 1}}] for i in range(1001)]}]}
            }
        },
        "spec.space",
        "has 1,001 domains with a choice, more than 1,000: leave less open",
    ),
    "grid": ({"space": HUGE}, "spec.maxTrials", "is missing: without it there are more than"),
    "hyperband": (
        {
            "steps": 10**12,
            "space": PLANE,
            "algorithm": {"name": "hyperband", "minSteps": 1, "eta": 2},
        },
        "spec.maxTrials",
        "is missing: without it there are more than 100,000 trials",
    ),
    "pbt": (
        {
            "steps": 1000,
            "space": PLANE,
            "algorithm": {"name": "pbt", "population": 10_000, "interval": 1, "quantile": 0.5},
        },
        "spec.algorithm.population",
        "may lead to 100,000 trials at most",
    ),
    "own schedules": (
        {"steps": 100_000, "space": NESTED, "algorithm": {"name": "random"}, "maxTrials": 1000},
        "spec.space",
        "have 400 trials at most, not 1,000",
    ),
    "candidates": (
        {
            "steps": 100_000,
            "space": NESTED,
            "algorithm": {"name": "random", "prefixFirst": {"candidates": 100}},
            "maxTrials": 10,
        },
        "spec.algorithm.prefixFirst.candidates",
        "must be at most 30 where a trial may have 10,000 pieces of its own",
    ),
    "replicates": (
        {"replicates": 1000, "replicateBest": 1000},
        "spec.replicates",
        "make 1,000,000 trials with replicateBest: lower one, to 10,000 at most",
    ),
    "seeds of replicates": (
        {"replicates": 1, "trainer": {"entrypoint": "t:T", "image": "i", "seed": 2**53}},
        "spec.trainer.seed",
        "leaves no room for the seeds of replicates",
    ),
    "a Gaussian process": (
        {
            "space": {f"x{i}": {"uniform": {"low": 0, "high": 1}} for i in range(300)},
            "algorithm": {"name": "optuna", "sampler": "gp"},
            "maxTrials": 1000,
        },
        "spec.maxTrials",
        "must be at most 316 with the sampler gp and its settings in a space of 300 dimensions",
    ),
    "candidates of tpe": (
        {
            "space": PLANE,
            "algorithm": {"name": "optuna", "sampler": "tpe",
                          "settings": {"n_ei_candidates": 1000, "multivariate": True}},
            "maxTrials": 100_000,
        },
        "spec.maxTrials",
        "must be at most 15000 with the sampler tpe",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_in_all_is_refused_in_one_line(name: str) -> None:
    spec, path, message = TOO_MUCH[name]
    ((at, told),) = _refusal(**spec)
    assert at == path
    assert message in told


ENOUGH: dict[str, dict[str, Any]] = {
    "10,000 pieces in one schedule": {"steps": 100_000, "space": {"x": {"choices": [STEPS]}}},
    "10,000 short pieces": {
        "steps": 20_000,
        "space": {"x": {"choices": [{"step": {**STEPS["step"], "every": 2}}]}},
    },
    "10,000 formulas": {
        "steps": 100_000,
        "space": {"x": {"choices": [{"piecewise": [
            [10 * i, {"linear": {"initial": 1, "final": 2, "steps": 50 + i}}]
            for i in range(MAX_PIECES // 2)]}]}},
    },
    "150 schedules of 10,000 pieces": {
        "steps": 100_000, "space": {"x": {"choices": _schedules(150)}}},
    "10,000 choices": {"space": {"x": {"choices": list(range(10_000))}}},
    "10^12 steps": {"steps": 10**12, "space": {"x": {"choices": [
        {"cosine": {"initial": 0.1, "final": 0, "steps": 10**12}}]}}},
    "10,000 trials": {"space": PLANE, "algorithm": {"name": "asha", "minSteps": 1},
                      "maxTrials": 10_000},
    "10,000 trials by tpe": {"space": PLANE, "algorithm": {"name": "optuna", "sampler": "tpe"},
                             "maxTrials": 10_000},
    "10,000 of a large grid": {"space": HUGE, "maxTrials": 10_000},
    "choices within choices": {"space": {"x": DEEP}},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ENOUGH)
def test_what_people_use_is_taken(name: str) -> None:
    parse_study(study_document("s", **ENOUGH[name]))


def test_a_study_is_read_without_working_out_its_schedules() -> None:
    """1.5 million pieces took 10 s and 450 MB."""
    kept = sequence._INTERNED.size
    parse_study(study_document("s", **ENOUGH["150 schedules of 10,000 pieces"]))
    assert sequence._INTERNED.size == kept


def test_bounds_agree() -> None:
    assert MAX_SPACE_PIECES >= 30 * MAX_PIECES  # one schedule of formulas passes
    assert MAX_TRIALS >= 10_000
    assert MAX_SEQUENCE_PIECES >= 10 * MAX_PIECES


# -- what is kept of schedules ---------------------------------------------------------------------


def _work_out(index: int, pieces: int) -> Any:
    written = {"step": {"initial": 0.1 + index, "gamma": 0.999, "every": 10}}
    return lambda: expand(read_concrete(written, "x"), 10 * pieces, "x")


def test_interned_schedules_are_bounded_by_bytes() -> None:
    interned = Interned(most=100_000)
    dice = random.Random(1)
    held = []
    for turn in range(300):
        index, pieces = dice.randrange(40), dice.choice([1, 3, 10, 100])
        runs = interned.find(f"{index}", pieces, _work_out(index, pieces))
        if turn % 50 == 0:
            held.append((index, pieces, runs))
        assert interned.size <= 100_000
    for index, pieces, runs in held:  # equal writing is the same object as long as it is held
        assert interned.find(f"{index}", pieces, _work_out(index, pieces)) is runs


def test_a_schedule_too_large_to_keep_is_found_while_it_is_held() -> None:
    interned = Interned(most=100_000)
    runs = interned.find("a", 1, _work_out(0, 1000))
    assert interned.size == 0
    assert interned.find("a", 1, _work_out(0, 1000)) is runs


def many(count: int) -> dict[str, Any]:
    return {
        f"x{i}": {"step": {"initial": 0.1, "gamma": round(0.9999 - i * 1e-8, 10), "every": 1000}}
        for i in range(count)
    }


def test_a_trial_has_no_more_pieces_than_its_reader_can_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (sequence, budget):
        monkeypatch.setattr(module, "MAX_SEQUENCE_PIECES", 200)
    steps, each = 50_000, 50
    written = many(1000)
    with pytest.raises(InvalidSpec, match=r"^hyperparameters: of a trial have more than 200 "):
        sequence.Sequence.of(written, steps)  # soon: most are not worked out
    fitting = {name: written[name] for name in list(written)[: 200 // each]}
    sequence.Sequence.of(fitting, steps)
    for names, is_taken in ((list(fitting), True), (list(written)[: 200 // each + 1], False)):
        space = {name: {"choices": [written[name]]} for name in names}
        body = study_document("s", space=space, steps=steps)
        if is_taken:
            parse_study(body)
            continue
        with pytest.raises(InvalidSpec, match=r"spec\.space: has up to 250 pieces in one trial"):
            parse_study(body)
