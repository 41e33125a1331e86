"""External studies in the engine: requests at any moment, with faults and restarts between them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.engine.commands import Command, Refuse
from hippo.engine.events import Requested, StudyAdded, StudyChanged, Tick
from hippo.lifecycles import StudyState, TrialState
from hippo.model.study import Budget
from hippo.protocol.requests import Close, Promote, Request, Stop, Suggest
from tests.world import World, build_study, train_alone

STEPS = 12
SPACE: dict[str, Any] = {
    "a": {
        "choices": [
            {
                "multistep": {
                    "initial": {"int": {"low": 1, "high": 9}},
                    "gamma": 2,
                    "milestones": [4],
                }
            }
        ]
    },
}


def made(**spec: Any) -> Any:
    return build_study("s", space=SPACE, steps=STEPS, algorithm={"name": "external"}, **spec)


def late(value: int) -> dict[str, Any]:
    """Points that share their first four steps; none lies in the domain."""
    return {"a": {"piecewise": [[0, 20], [4, value]]}}


@dataclass
class Office(World):
    """A world with a mailbox, reread from its start after a restart."""

    requests: list[Request] = field(default_factory=list)
    refusals: dict[int, str] = field(default_factory=dict)

    def start_engine(self) -> None:
        super().start_engine()
        for number in range(len(self.requests)):
            self._deliver(number)

    def ask(self, request: Request) -> int:
        self.requests.append(request)
        self._deliver(len(self.requests) - 1)
        return len(self.requests) - 1

    def _deliver(self, number: int) -> None:
        if self.engine.studies["s"].is_active:
            was_refused = number in self.refusals
            self.feed(Requested("s", number, self.requests[number], was_refused))

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Refuse):
            assert command.number not in self.refusals
            self.refusals[command.number] = command.message
        super()._carry_out(command)

    @property
    def run_of(self) -> Any:
        return self.engine.studies["s"]


def test_a_study_that_is_not_closed_waits() -> None:
    office = Office([made()])
    ticket = office.ask(Suggest(hyperparameters=late(1), steps=6))
    while office.advance():
        pass
    assert not office.engine.is_finished
    assert office.run_of.trials[0].state is TrialState.PAUSED
    office.ask(Promote(trial=ticket, steps=STEPS))
    office.ask(Close())
    office.run()
    assert office.run_of.state is StudyState.SUCCEEDED
    assert set(office.run_of.trials[0].results) == {6, STEPS}
    assert sum(office.trained.values()) == STEPS


def test_a_point_that_is_known_is_answered_at_once() -> None:
    office = Office([made()])
    for steps in (6, 6, 3):
        office.ask(Suggest(hyperparameters=late(1), steps=steps))
    office.ask(Close())
    office.run()
    assert max(office.trained.values()) == 1
    assert [set(trial.results) for trial in office.run_of.trials] == [{6}, {6}, {3}]


def test_closed_without_a_trial_it_says_so() -> None:
    office = Office([made()])
    office.ask(Close())
    assert office.ended["s"].message == "no trial succeeded: none was asked for"


def test_requests_to_a_suspended_study_wait() -> None:
    study = made()
    asleep = made(suspend=True)
    office = Office([study])
    office.feed(StudyChanged(asleep))
    for number, request in enumerate(
        [Suggest(hyperparameters=late(1), steps=6), Promote(trial=0, steps=9), Close()]
    ):
        office.requests.append(request)
        office.feed(Requested("s", number, request))
    assert not office.run_of.trials
    office.feed(StudyChanged(study))
    office.run()
    assert not office.refusals
    assert set(office.run_of.trials[0].results) == {6, 9}


REQUESTS = st.lists(
    st.one_of(
        st.builds(
            Suggest, hyperparameters=st.integers(1, 4).map(late), steps=st.integers(1, STEPS)
        ),
        st.builds(Promote, trial=st.integers(0, 9), steps=st.integers(1, STEPS)),
        st.builds(Stop, trial=st.integers(0, 9)),
    ),
    max_size=14,
)


@pytest.mark.slow
@given(REQUESTS, st.integers(0, 2**32), st.booleans())
def test_any_requests_with_any_faults(requests: list[Request], seed: int, faults: bool) -> None:
    dice = random.Random(seed)
    office = Office([made(retries=100)], workers=2)
    queue = [*requests, Close()]
    for _ in range(5000):
        if queue and dice.random() < 0.3:
            office.ask(queue.pop(0))
        if faults and dice.random() < 0.05:
            office.disturb(dice)
        if not office.advance() and not queue:
            break
    office.feed(Tick())
    assert office.engine.is_finished
    decided = [d.request for d in office.decisions.get("s", []) if d.request is not None]
    assert sorted([*decided, *office.refusals]) == [*range(len(requests))]
    for trial in office.run_of.trials:
        assert trial.state.is_final
        for step, metrics in trial.results.items():
            written = dict(trial.sequence.hyperparameters)
            assert metrics == train_alone(written, STEPS, step)[1]
    if not faults:
        # Not each step once: who asks for step 3 when its chain is at 5 may have it trained again.
        asked = (max(trial.results, default=0) for trial in office.run_of.trials)
        stopped = any(trial.state is TrialState.STOPPED for trial in office.run_of.trials)
        assert stopped or sum(office.trained.values()) <= sum(asked)


def test_an_ended_study_takes_no_requests() -> None:
    office = Office([made()])
    office.ask(Suggest(hyperparameters=late(1), steps=6))
    office.ask(Close())
    office.run()
    office.start_engine()
    office.feed(StudyAdded(build_study("t", space={"a": {"choices": [1]}})))
    assert office.run_of.state is StudyState.SUCCEEDED
    assert not office.refusals


def test_a_raised_budget_lets_its_trials_go_on_and_takes_requests_again() -> None:
    office = Office([made(budget={"wallTime": "3s"})], workers=1)
    first = office.ask(Suggest(hyperparameters=late(1), steps=STEPS))
    office.run()
    assert office.run_of.trials[0].state is TrialState.STOPPED
    office.run_again("s", budget=Budget())
    office.ask(Suggest(hyperparameters=late(2), steps=STEPS))
    office.ask(Close())
    office.run()
    assert first == office.run_of.trials[0].request
    assert [set(trial.results) for trial in office.run_of.trials] == [{STEPS}, {STEPS}]
    assert max(office.trained.values()) == 1


def test_a_closed_study_tries_failed_trials_again_and_takes_no_more() -> None:
    broken = True
    office = Office(
        [made(retries=0)], workers=1, fail=lambda key, attempt: "no room" if broken else None
    )
    office.ask(Suggest(hyperparameters=late(1), steps=STEPS))
    office.ask(Close())
    office.run()
    assert office.run_of.trials[0].state is TrialState.FAILED
    broken = False
    office.run_again("s", retry=True).run()
    assert office.run_of.trials[0].state is TrialState.COMPLETED
    assert office.run_of.state is StudyState.SUCCEEDED
