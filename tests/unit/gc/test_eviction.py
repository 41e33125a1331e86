"""The lazy heap evicts the same checkpoints as recomputing every price each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.gc import Stored, choose_evictions


def stored(
    number: int, step: int, size: int, rate: float, before: Stored | None, protected: bool = False
) -> Stored:
    return Stored(
        identity=("plan", f"k{number:03}"),
        step=step,
        size=size,
        seconds=lambda begun: (step - begun) * rate,
        before=before,
        is_protected=protected,
    )


@st.composite
def forests(draw: st.DrawFn) -> list[Stored]:
    items: list[Stored] = []
    for number in range(draw(st.integers(0, 12))):
        before = draw(st.sampled_from([None, *items]))
        step = (before.step if before else 0) + draw(st.integers(1, 4))
        size, rate = draw(st.integers(0, 5)), draw(st.sampled_from([0.5, 1.0, 2.0]))
        items.append(stored(number, step, size, rate, before, draw(st.booleans())))
    return items


def choose_by_brute_force(items: list[Stored], excess: int) -> list[Stored]:
    left, chosen = list(items), []

    def price(item: Stored) -> tuple[float, tuple[str, str]]:
        before = item.before
        while before is not None and before not in left:
            before = before.before
        return item.seconds(before.step if before else 0) / max(1, item.size), item.identity

    while excess > 0 and any(not item.is_protected for item in left):
        cheapest = min((item for item in left if not item.is_protected), key=price)
        left.remove(cheapest)
        chosen.append(cheapest)
        excess -= cheapest.size
    return chosen


@pytest.mark.slow
@given(forests(), st.integers(-1, 40))
def test_as_if_every_price_were_worked_out_anew(items: list[Stored], excess: int) -> None:
    assert choose_evictions(items, excess) == choose_by_brute_force(items, excess)


def test_the_price_of_what_follows_rises() -> None:
    first = stored(0, 4, 10, 1.0, None)  # 4 s
    second = stored(1, 7, 10, 1.0, first)  # 3 s, then 7 s
    third = stored(2, 9, 10, 1.0, second)  # 2 s, then 5 s
    alone = stored(3, 6, 10, 1.0, None)  # 6 s
    items = [first, second, third, alone]
    assert choose_evictions(items, 1) == [third]
    assert choose_evictions(items, 11) == [third, second]
    assert choose_evictions(items, 31) == [third, second, first, alone]


def test_a_large_one_goes_before_a_small_one_of_the_same_cost() -> None:
    small, large = stored(0, 4, 10, 1.0, None), stored(1, 4, 11, 1.0, None)
    assert choose_evictions([small, large], 5) == [large]
