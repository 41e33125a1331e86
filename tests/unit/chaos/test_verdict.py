"""What counts as lost, and what as trained again without need."""

from __future__ import annotations

from tests.chaos.verdict import weigh
from tests.chaos.witness import Step


def steps(worker: str, *numbers: int, at: float = 0.0, path: str = "") -> list[Step]:
    """Of one path, one second each."""
    return [
        Step(worker, number, f"{path}{number}", at + index) for index, number in enumerate(numbers)
    ]


def test_undisturbed_nothing_is_lost() -> None:
    seen = steps("a", 1, 2, 3, 4) + steps("b", 3, 4, path="other", at=2.5)
    work = weigh(seen, {"a": [2, 4], "b": [4]})
    assert (work.trained, work.unique, work.again, work.unsaved) == (6, 6, 0, 0)
    assert work.unexplained == ()
    assert work.longest_pause == 1.0


def test_what_a_killed_worker_had_not_saved_may_be_trained_again() -> None:
    seen = steps("a", 1, 2, 3, 4) + steps("b", 3, 4, 5, at=9.0)
    work = weigh(seen, {"a": [2], "b": [5]})
    assert (work.again, work.unsaved, work.unexplained) == (2, 2, ())
    assert work.longest_pause == 6.0


def test_what_was_saved_may_not() -> None:
    seen = steps("a", 1, 2, 3, 4) + steps("b", 2, 3, at=9.0)
    work = weigh(seen, {"a": [2], "b": [3]})
    assert work.again == 2
    assert work.unexplained == ("step 2 of a was saved, and trained again by b",)


def test_nor_what_the_next_worker_had_saved() -> None:
    seen = steps("a", 1, 2) + steps("b", 1, 2, at=5.0) + steps("c", 1, 2, at=9.0)
    work = weigh(seen, {"b": [2]})
    assert work.unexplained == tuple(
        f"step {step} of b was saved, and trained again by c" for step in (1, 2)
    )


def test_two_workers_at_once_are_found_out() -> None:
    seen = steps("a", 1, 2, 3) + steps("b", 1, 2, 3, at=0.5)
    assert len(weigh(seen, {"a": [3], "b": [3]}).unexplained) == 3


def test_of_damaged_checkpoints_all_may_be_trained_again() -> None:
    seen = steps("a", 1, 2, 3) + steps("b", 1, 2, 3, at=5.0)
    assert weigh(seen, {"a": [3], "b": [3]}, spoilt=["a"]).unexplained == ()
