"""Every life-cycle of Hippo in one table: studies, trials, stages and workers.

Whatever changes a state does it through :func:`advance`; an event that the table does not list
raises and changes nothing. The operator's conditions, the CLI's words and the documentation's
diagrams come from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, StrEnum
from typing import NamedTuple, TypeVar


class InvariantViolated(AssertionError):
    """A defect of Hippo itself, never of its input."""


class StudyFault(Exception):
    """An unforeseen error in work for one study, such as its tuner or its hyper-parameters.

    The other studies of the plan must go on. The engine that raises it may have stopped half-way:
    drop it, and leave the study out of the next one.
    """

    def __init__(self, study: str, reason: str) -> None:
        super().__init__(f"study {study} cannot go on: {reason}")
        self.study = study
        self.reason = reason  # one line


class TrialInTheWay(StudyFault):
    """An object that somebody else made has the name of one of the study's Trials."""

    def __init__(self, study: str, trial: str) -> None:
        super().__init__(study, f"a Trial {trial} exists that Hippo did not make: delete it")
        self.trial = trial


_LONGEST_REASON = 300


@contextmanager
def blame(study: str, *passing: type[Exception]) -> Iterator[None]:
    """Turn errors raised within into this study's StudyFault, except InvariantViolated, ``passing``
    and another study's fault.
    """
    try:
        yield
    except (StudyFault, InvariantViolated):
        raise
    except passing:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        raise StudyFault(study, reason[:_LONGEST_REASON]) from error


class _Named(Enum):
    """Told apart by class as well as by value: a trial's Pending is not a stage's."""

    def __str__(self) -> str:
        return str(self.value)


class StudyState(_Named):
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        return self in (StudyState.SUCCEEDED, StudyState.FAILED)


class StudyEvent(_Named):
    SUSPEND = "suspend"
    RESUME = "resume"
    SUCCEED = "succeed"  # the tuner has finished, the target is reached, or the budget is spent
    FAIL = "fail"  # too many failures, or no trial succeeded
    REOPEN = "reopen"  # the limits under which it had ended were raised, or it is tried again


class EndReason(StrEnum):
    """Why a study has ended; an end is a verdict under limits. Stored: values never change."""

    COMPLETED = "completed"  # nothing is left to be trained
    TARGET = "target"
    BUDGET = "budget"
    FAILED_TRIALS = "maxFailedTrials"
    NO_RESULT = "noResult"  # every trial has failed or diverged
    REMOVED = "removed"

    @property
    def is_early(self) -> bool:
        """Whether a raised limit lets trials go on that the end has stopped."""
        return self in (EndReason.BUDGET, EndReason.FAILED_TRIALS)


class End(NamedTuple):
    """How a study has ended."""

    state: StudyState
    message: str
    reason: EndReason | None = None  # None: of an older Hippo, and not to be told from its words


class TrialState(_Named):
    PENDING = "Pending"  # its next request is not fulfilled yet
    PAUSED = "Paused"  # its request is fulfilled; the tuner may ask for more
    COMPLETED = "Completed"  # trained up to the study's steps
    STOPPED = "Stopped"  # by its tuner, or because its study ended
    DIVERGED = "Diverged"  # a metric was not finite
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        return self not in (TrialState.PENDING, TrialState.PAUSED)


class TrialEvent(_Named):
    REPORTED = "reported"  # metrics at the step asked for
    COMPLETED = "completed"  # ... which was the study's last
    PROMOTED = "promoted"
    STOPPED = "stopped"
    DIVERGED = "diverged"
    FAILED = "failed"


class StageState(_Named):
    PENDING = "Pending"
    RUNNING = "Running"  # a running chain has promised it
    DONE = "Done"
    FAILED = "Failed"
    WITHDRAWN = "Withdrawn"  # nobody wants it any more


class StageEvent(_Named):
    PROMISED = "promised"  # a chain covers it
    RETURNED = "returned"  # the chain ended, or refused, without it
    REPORTED = "reported"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class WorkerState(_Named):
    LAUNCHED = "Launched"
    TRAINING = "Training"
    ARRIVED = "Arrived"  # at the end of its route, waiting for another
    LEAVING = "Leaving"  # told to stop
    ENDED = "Ended"


class WorkerEvent(_Named):
    BEGAN = "began"
    ARRIVED = "arrived"
    REROUTED = "rerouted"
    TOLD_TO_STOP = "told to stop"
    ENDED = "ended"


_S, _T, _G, _W = StudyState, TrialState, StageState, WorkerState

TRANSITIONS: dict[tuple[Enum, Enum], Enum] = {
    (_S.RUNNING, StudyEvent.SUSPEND): _S.SUSPENDED,
    (_S.RUNNING, StudyEvent.SUCCEED): _S.SUCCEEDED,
    (_S.RUNNING, StudyEvent.FAIL): _S.FAILED,
    (_S.SUSPENDED, StudyEvent.RESUME): _S.RUNNING,
    (_S.SUSPENDED, StudyEvent.FAIL): _S.FAILED,
    (_S.SUCCEEDED, StudyEvent.REOPEN): _S.RUNNING,
    (_S.FAILED, StudyEvent.REOPEN): _S.RUNNING,
    #
    (_T.PENDING, TrialEvent.REPORTED): _T.PAUSED,
    (_T.PENDING, TrialEvent.COMPLETED): _T.COMPLETED,
    (_T.PENDING, TrialEvent.DIVERGED): _T.DIVERGED,
    (_T.PENDING, TrialEvent.FAILED): _T.FAILED,
    (_T.PENDING, TrialEvent.STOPPED): _T.STOPPED,
    (_T.PENDING, TrialEvent.PROMOTED): _T.PENDING,  # replayed, and its result was lost since
    (_T.PAUSED, TrialEvent.PROMOTED): _T.PENDING,
    (_T.PAUSED, TrialEvent.STOPPED): _T.STOPPED,
    #
    (_G.PENDING, StageEvent.PROMISED): _G.RUNNING,
    (
        _G.PENDING,
        StageEvent.REPORTED,
    ): _G.DONE,  # by another plan's writer, or recalled from the store
    (_G.PENDING, StageEvent.FAILED): _G.FAILED,
    (_G.PENDING, StageEvent.WITHDRAWN): _G.WITHDRAWN,
    (_G.RUNNING, StageEvent.RETURNED): _G.PENDING,
    (_G.RUNNING, StageEvent.REPORTED): _G.DONE,
    (_G.RUNNING, StageEvent.FAILED): _G.FAILED,
    (_G.RUNNING, StageEvent.WITHDRAWN): _G.WITHDRAWN,
    #
    (_W.LAUNCHED, WorkerEvent.BEGAN): _W.TRAINING,
    (_W.LAUNCHED, WorkerEvent.TOLD_TO_STOP): _W.LEAVING,
    (_W.LAUNCHED, WorkerEvent.ENDED): _W.ENDED,
    (_W.TRAINING, WorkerEvent.ARRIVED): _W.ARRIVED,
    (_W.TRAINING, WorkerEvent.REROUTED): _W.TRAINING,
    (_W.TRAINING, WorkerEvent.TOLD_TO_STOP): _W.LEAVING,
    (_W.TRAINING, WorkerEvent.ENDED): _W.ENDED,
    (_W.ARRIVED, WorkerEvent.REROUTED): _W.TRAINING,
    (_W.ARRIVED, WorkerEvent.TOLD_TO_STOP): _W.LEAVING,
    (_W.ARRIVED, WorkerEvent.ENDED): _W.ENDED,
    (_W.LEAVING, WorkerEvent.BEGAN): _W.LEAVING,
    (_W.LEAVING, WorkerEvent.ARRIVED): _W.LEAVING,
    (_W.LEAVING, WorkerEvent.ENDED): _W.ENDED,
}
"""(state, event) -> next state. What is not listed cannot happen."""

State = TypeVar("State", StudyState, TrialState, StageState, WorkerState)


def advance(state: State, event: Enum) -> State:
    """The next state; InvariantViolated if the table does not know the pair."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise InvariantViolated(
            f"{type(state).__name__} {state} cannot take the event {event.value!r}"
        )
    assert isinstance(following, type(state))
    return following
