"""The tuner of external studies: every request is answered once, whatever the order of results."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import Sequence, Study
from hippo.protocol.decisions import Decision
from hippo.protocol.requests import Close, Promote, Request, Stop, Suggest
from hippo.tune import Result, Tuner, create_tuner, external
from tests.unit.tune.simulation import make_study

SPACE: dict[str, Any] = {
    "lr": {"uniform": {"low": 0.1, "high": 1}},
    "width": {"choices": [1, 2], "static": True},
}


def study(**changes: Any) -> Study:
    return make_study({"name": "external"}, space=SPACE, steps=20, **changes)


def suggest(steps: int = 5, **changes: Any) -> Suggest:
    return Suggest(hyperparameters={"lr": 0.3, "width": 1, **changes}, steps=steps)


class Desk:
    """A tuner, with the decisions and refusals so far."""

    def __init__(self, study: Study) -> None:
        self.tuner: Tuner = create_tuner(study)
        self.decisions: list[Decision] = []
        self.refusals: dict[int, str] = {}

    def ask(self, number: int, request: Request) -> None:
        self.tuner.submit(number, request)
        self.settle()

    def tell(self, trial: int, step: int, value: float | None = 1.0) -> None:
        self.tuner.tell(Result(trial, step, value))
        self.settle()

    def settle(self) -> None:
        """Decides and refuses as the engine does."""
        while True:
            while (refusal := self.tuner.refusal()) is not None:
                self.refusals[refusal[0]] = refusal[1]
                self.tuner.refuse(refusal[0])
            decisions = self.tuner.decide(0)
            assert self.tuner.decide(3) == decisions
            if not decisions:
                return
            for decision in decisions:
                self.tuner.apply(decision)
                self.decisions.append(decision)

    def said(self) -> list[tuple[str, int, int, int | None]]:
        return [(d.kind, d.trial, d.steps, d.request) for d in self.decisions]


def test_trials_go_as_far_as_they_are_asked_to() -> None:
    desk = Desk(study())
    desk.ask(0, suggest(3))
    desk.ask(1, suggest(20))
    desk.ask(2, Promote(trial=0, steps=7))  # waits for the report at 3
    assert desk.said() == [("suggest", 0, 3, 0), ("suggest", 1, 20, 1)]
    desk.tell(0, 3)
    assert desk.said()[2:] == [("promote", 0, 7, 2)]
    desk.ask(3, Promote(trial=0, steps=20))
    desk.tell(0, 7)
    assert desk.said()[3:] == [("promote", 0, 20, 3)]
    desk.tell(1, 20)
    desk.tell(0, 20)
    assert not desk.tuner.finished  # more may come
    desk.ask(4, Close())
    assert desk.tuner.finished
    assert not desk.refusals


def test_a_closed_study_ends_its_paused_trials_once_all_is_trained() -> None:
    desk = Desk(study())
    for number in range(3):
        desk.ask(number, suggest(5 + number))
    desk.ask(3, Close())
    desk.ask(4, suggest())
    desk.tell(0, 5)
    desk.tell(2, 7)
    assert not desk.tuner.finished
    assert len(desk.decisions) == 3
    desk.tell(1, 6)
    assert desk.said()[3:] == [("stop", trial, 5 + trial, None) for trial in range(3)]
    assert desk.tuner.finished
    assert desk.refusals == {4: "the study was closed by request 3"}


def test_a_stop_takes_effect_at_once_and_ends_what_waits() -> None:
    desk = Desk(study())
    desk.ask(0, suggest(5))
    desk.ask(1, Promote(trial=0, steps=9))
    desk.ask(2, Stop(trial=0))
    assert desk.said() == [("suggest", 0, 5, 0), ("stop", 0, 0, 2)]
    assert desk.refusals == {1: "trial: was stopped"}
    assert not desk.tuner.may_continue(0)


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (suggest(21), "steps: must be at most spec.steps (20), not 21"),
        (suggest(0), "steps: must be at least 1, not 0"),
        (suggest(momentum=0.9), "hyperparameters.momentum: is not in spec.space; known: lr, width"),
        (Suggest(hyperparameters={"lr": 1}, steps=3), "hyperparameters.width: is missing"),
        (
            suggest(lr={"cosine": {"initial": 1, "final": 0, "steps": 0}}),
            "hyperparameters.lr.cosine.steps: must be at least 1",
        ),
        (suggest(lr={"choices": [1]}), "hyperparameters.lr: "),
        (suggest(lr=None), "hyperparameters.lr: "),
        (
            suggest(width={"step": {"initial": 1, "gamma": 2, "every": 2}}),
            "hyperparameters.width: is no plain value, but width is static",
        ),
        (Promote(trial=7, steps=9), "trial: request 7 made no trial"),
        (Promote(trial=0, steps=5), "steps: must be more than 5"),
        (Promote(trial=0, steps=99), "steps: must be at most spec.steps (20), not 99"),
        (Promote(trial=1, steps=9), "trial: has failed or diverged"),
        (Stop(trial=1), "trial: has failed or diverged"),
        (Stop(trial=2), "trial: has ended"),
        (Stop(trial=-1), "trial: request -1 made no trial"),
    ],
)
def test_refuses_what_cannot_be_and_goes_on(request_: Request, line: str) -> None:
    desk = Desk(study())
    for number, steps in enumerate((5, 5, 20)):
        desk.ask(number, suggest(steps))
    desk.tell(0, 5)
    desk.tell(1, 5, None)
    desk.tell(2, 20)
    known = len(desk.decisions)
    desk.ask(3, request_)
    assert desk.refusals[3].startswith(line)
    assert len(desk.decisions) == known
    desk.ask(4, suggest())
    assert desk.decisions[-1].request == 4


def test_domains_are_not_enforced() -> None:
    desk = Desk(study())
    desk.ask(0, suggest(lr=7, width="wide"))
    assert not desk.refusals


def test_max_trials_bounds_the_trials_and_ends_the_study() -> None:
    desk = Desk(study(max_trials=2))
    for number in range(3):
        desk.ask(number, suggest(20))
    assert desk.refusals == {2: "spec.maxTrials (2) is reached"}
    desk.tell(0, 20)
    desk.tell(1, 20)
    assert desk.tuner.finished


REQUESTS = st.lists(
    st.one_of(
        st.builds(suggest, st.integers(-1, 22)),
        st.builds(Promote, trial=st.integers(0, 9), steps=st.integers(1, 21)),
        st.builds(Stop, trial=st.integers(0, 9)),
    ),
    max_size=12,
)


@pytest.mark.slow
@given(REQUESTS, st.randoms(use_true_random=False))
def test_every_request_is_answered_once_across_restarts(requests: Any, dice: Any) -> None:
    """After requests and results in any order, a restart at any moment gives the same tuner."""
    made = study()
    desk = Desk(made)
    results: list[tuple[int, int, float | None]] = []
    queue = [*requests, Close()]
    number = 0
    while number < len(queue) or desk.tuner._pending:
        if number < len(queue) and (not desk.tuner._pending or dice.random() < 0.5):
            desk.ask(number, queue[number])
            number += 1
        else:
            trial = dice.choice(sorted(desk.tuner._pending))
            result = (trial, desk.tuner._targets[trial], dice.choice([1.0, 1.0, None]))
            results.append(result)
            desk.tell(*result)
        again = create_tuner(made)
        for decision in desk.decisions:
            again.apply(decision)
        for known in dice.sample(results, len(results)):
            again.tell(Result(*known))
        for earlier in range(number):
            if earlier in desk.refusals:
                again.refuse(earlier)
            else:
                again.submit(earlier, queue[earlier])
        assert again.refusal() is None
        assert again.decide(1) == desk.tuner.decide(1) == []
        assert again.finished == desk.tuner.finished
    assert desk.tuner.finished
    decided = [d.request for d in desk.decisions if d.request is not None]
    assert sorted([*decided, *desk.refusals]) == [*range(len(requests))]


def test_a_stop_says_where_the_trial_stays_not_where_it_was_sent() -> None:
    """Later results computed for other trials do not count for it, whatever its target."""
    desk = Desk(study())
    desk.ask(0, suggest(steps=5))
    desk.ask(1, Stop(trial=0))
    desk.ask(2, suggest(steps=5, lr=0.4))
    desk.tell(1, 5)
    desk.ask(3, Promote(trial=2, steps=9))
    desk.ask(4, Stop(trial=2))
    stops = [(d.trial, d.steps) for d in desk.decisions if d.kind == "stop"]
    assert stops == [(0, 0), (1, 5)]


def test_a_request_that_cannot_be_worked_out_is_refused_alone() -> None:
    desk = Desk(study())
    grows = {"exponential": {"initial": 1e300, "gamma": 123456789012345.5}}
    desk.ask(0, suggest(lr=grows))
    desk.ask(1, suggest())
    assert desk.refusals == {
        0: "hyperparameters.lr: grows beyond the largest double within 20 steps"
    }
    assert [decision.request for decision in desk.decisions] == [1]


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), TypeError("odd\nlines")])
def test_whatever_a_request_fails_with_is_its_own_affair(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    read = Sequence.of

    def fail(hyperparameters: Any, steps: int) -> Sequence:
        if hyperparameters["lr"] == 0.7:
            raise error
        return read(hyperparameters, steps)

    monkeypatch.setattr("hippo.tune.external.Sequence.of", fail)
    desk = Desk(study())
    desk.ask(0, suggest(lr=0.7))
    desk.ask(1, suggest())
    assert desk.refusals == {0: f"hyperparameters: cannot be worked out ({type(error).__name__})"}
    assert [decision.request for decision in desk.decisions] == [1]


def test_a_trial_goes_on_as_often_as_its_object_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MAX_PROMOTIONS", 2)
    desk = Desk(study())
    desk.ask(0, suggest(1))
    for step in range(1, 4):
        desk.ask(step, Promote(trial=0, steps=step + 1))
        desk.tell(0, step)
    assert [decision.kind for decision in desk.decisions] == ["suggest", "promote", "promote"]
    assert desk.refusals == {3: "trial: went on 2 times, the most there may be"}


def test_schedules_of_all_trials_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "MAX_ASKED_PIECES", 5)
    desk = Desk(study())

    def ask(number: int, initial: float) -> None:
        changing = {"step": {"initial": initial, "gamma": 0.5, "every": 10}}  # two pieces
        desk.ask(number, suggest(lr=changing))

    for number, initial in enumerate((0.1, 0.2, 0.2, 0.3)):
        ask(number, initial)
    desk.ask(4, suggest(lr=0.4))
    assert [decision.request for decision in desk.decisions] == [0, 1, 2, 4]
    assert desk.refusals[3].startswith(
        "hyperparameters: the study's trials would have 6 pieces together, more than 5: let them"
    )
    again = create_tuner(study())
    for decision in desk.decisions:
        again.apply(decision)
    again.submit(5, suggest(lr={"step": {"initial": 0.3, "gamma": 0.5, "every": 10}}))
    refused = again.refusal()
    assert refused is not None
    assert refused[0] == 5
