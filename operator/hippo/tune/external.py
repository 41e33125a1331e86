"""Trials requested by a user's own program: the tuner only validates and orders requests.

Numbered requests come from a mailbox. Each is answered once, by a decision that carries its number
or by a refusal. Both are durable, so replaying them and then reading the mailbox from the start
restores the tuner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hippo.model import InvalidSpec, Sequence, Study
from hippo.model.bounds import MAX_ASKED_PIECES
from hippo.model.sequences.canonical import Runs
from hippo.protocol.decisions import Decision
from hippo.protocol.requests import Close, Promote, Request, Stop, Suggest
from hippo.tune.ordering import rank
from hippo.tune.tuner import Result, Tuner

MAX_PROMOTIONS = 5000
"""Promotions of one trial: each is an entry of its Trial object, whose size etcd limits."""


class ExternalTuner(Tuner):
    """Trials may report at any step, any number of times, at increasing steps.

    Requests refer to a trial by the number of the request that suggested it. Values need not lie in
    the domains of the space, which only declares the hyper-parameters and which of them are static.
    """

    asks_by_itself = False

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._waiting: dict[int, Request] = {}  # neither carried out nor refused, by number
        self._answered: set[int] = set()
        self._trial_of: dict[int, int] = {}  # trial by number of the request that suggested it
        self._closed: int | None = None  # number of the request that closed the study
        self._promotions: dict[int, int] = {}  # by trial
        self._farthest: dict[int, int] = {}  # last step with a result, by trial
        self._schedules: dict[int, Runs] = {}  # of all trials, by identity
        self._pieces = 0  # total pieces of these schedules

    # -- what is known -----------------------------------------------------------------------------

    def submit(self, number: int, request: Request) -> None:
        """Takes a request from the mailbox. Repeated submissions are ignored."""
        if number in self._answered:
            return
        if isinstance(request, Close):
            self._closed = number if self._closed is None else min(number, self._closed)
        else:
            self._waiting[number] = request

    def refuse(self, number: int) -> None:
        self._answered.add(number)
        self._waiting.pop(number, None)

    def apply(self, decision: Decision) -> None:
        self._check(decision)
        self._count += 1
        if decision.request is not None:
            self._answered.add(decision.request)
            self._waiting.pop(decision.request, None)
        trial = decision.trial
        match decision.kind:
            case "suggest":
                if decision.request is not None:
                    self._trial_of[decision.request] = trial
                self._targets.append(decision.steps)
                self._await(trial)
                assert decision.hyperparameters is not None
                schedules = self._new_schedules(decision.hyperparameters)
                self._schedules |= schedules
                self._pieces += _count(schedules)
            case "promote":
                self._promotions[trial] = self._promotions.get(trial, 0) + 1
                self._targets[trial] = decision.steps
                self._await(trial)
            case "stop":
                self._stopped.add(trial)
                self._pending.discard(trial)
            case "fail":
                self.tell(Result(trial, decision.steps, None))

    def _check(self, decision: Decision) -> None:
        known = len(self._targets)
        if decision.index != self._count:
            raise ValueError(f"decision {decision.index} came where {self._count} was due")
        suggests = decision.kind == "suggest"
        if decision.trial != known if suggests else not 0 <= decision.trial < known:
            raise ValueError(f"decision {decision.index}: trial {decision.trial} of {known}")
        least = 0 if decision.kind == "stop" else 1  # a trial may be stopped before it begins
        if not least <= decision.steps <= self.steps:
            raise ValueError(f"decision {decision.index}: step {decision.steps} of {self.steps}")

    def tell(self, result: Result) -> None:
        """Records a result. Results may come in any order and repeatedly."""
        if rank(result.value, self._goal, self.seed, result.trial)[0]:
            self._failed.add(result.trial)
            self._pending.discard(result.trial)
        else:
            self._results.add((result.trial, result.step))
            farthest = self._farthest.get(result.trial, 0)
            self._farthest[result.trial] = max(farthest, result.step)
            if self._has_arrived(result.trial):
                self._pending.discard(result.trial)

    def _has_arrived(self, trial: int) -> bool:
        return trial < len(self._targets) and (trial, self._targets[trial]) in self._results

    # -- what to do --------------------------------------------------------------------------------

    def decide(self, idle: int) -> list[Decision]:
        """Returns one decision at a time, since later requests may depend on earlier ones."""
        for number, request in sorted(self._waiting.items(), key=lambda entry: entry[0]):
            if self._problem(number, request) is None and self._is_due(request):
                return [self._decision(number, request)]
        return self._final_stops()

    def refusal(self) -> tuple[int, str] | None:
        for number, request in sorted(self._waiting.items(), key=lambda entry: entry[0]):
            problem = self._problem(number, request)
            if problem is not None:
                return number, problem
        return None

    @property
    def exhausted(self) -> bool:
        full = self._max_trials is not None and len(self._targets) >= self._max_trials
        return full or (self._closed is not None and not self._waiting)

    @property
    def finished(self) -> bool:
        """Whether the study is closed and trained, or no request could be carried out any more."""
        if self._pending or self._waiting:
            return False
        trials = range(len(self._targets))
        return self.exhausted and not any(self.may_continue(trial) for trial in trials)

    def _is_due(self, request: Request) -> bool:
        """Whether a request is due now; a promotion waits until the trial has reported."""
        if isinstance(request, Suggest | Close):
            return True
        trial = self._trial_of.get(request.trial)
        return trial is not None and not (isinstance(request, Promote) and trial in self._pending)

    def _problem(self, number: int, request: Request) -> str | None:
        """Returns why a request cannot be carried out; None if it can, now or later."""
        if self._closed is not None and number > self._closed:
            return f"the study was closed by request {self._closed}"
        if isinstance(request, Suggest):
            return self._problem_of_trial(request)
        assert isinstance(request, Promote | Stop)
        trial = self._trial_of.get(request.trial)
        if trial is None:
            if isinstance(self._waiting.get(request.trial), Suggest) and request.trial < number:
                return None
            return f"trial: request {request.trial} made no trial"
        if trial in self._failed:
            return "trial: has failed or diverged"
        if trial in self._stopped:
            return "trial: was stopped"
        if isinstance(request, Promote):
            if self._promotions.get(trial, 0) >= MAX_PROMOTIONS:
                return f"trial: went on {MAX_PROMOTIONS} times, the most there may be"
            return self._problem_of_steps(request.steps, self._targets[trial])
        return None if self.may_continue(trial) or trial in self._pending else "trial: has ended"

    def _problem_of_steps(self, steps: int, reached: int) -> str | None:
        if steps > self.steps:
            return f"steps: must be at most spec.steps ({self.steps}), not {steps}"
        if steps <= reached:
            least = f"more than {reached}, which the trial was asked to reach before"
            return f"steps: must be {least if reached else 'at least 1'}, not {steps}"
        return None

    def _problem_of_trial(self, request: Suggest) -> str | None:
        if self._max_trials is not None and len(self._targets) >= self._max_trials:
            return f"spec.maxTrials ({self._max_trials}) is reached"
        missing = sorted({*self._space.names} - request.hyperparameters.keys())
        unknown = sorted(request.hyperparameters.keys() - {*self._space.names})
        if missing:
            return f"hyperparameters.{missing[0]}: is missing"
        if unknown:
            names = ", ".join(self._space.names)
            return f"hyperparameters.{unknown[0]}: is not in spec.space; known: {names}"
        for name in sorted(self._space.static):
            if isinstance(request.hyperparameters[name], dict):
                return f"hyperparameters.{name}: is no plain value, but {name} is static"
        try:
            pieces = self._pieces + _count(self._new_schedules(request.hyperparameters))
        except InvalidSpec as error:
            path, message = error.errors[0]
            return f"{path}: {message}"
        except Exception as error:  # any error concerns only this request
            return f"hyperparameters: cannot be worked out ({type(error).__name__})"
        if pieces > MAX_ASKED_PIECES:
            return (
                f"hyperparameters: the study's trials would have {pieces:,} pieces together, more"
                f" than {MAX_ASKED_PIECES:,}: let them change less often, or make another study"
            )
        return self._problem_of_steps(request.steps, 0)

    def _new_schedules(self, hyperparameters: Mapping[str, Any]) -> dict[int, Runs]:
        """Returns the schedules that no trial has yet. Raises InvalidSpec."""
        sequence = Sequence.of(hyperparameters, self.steps)
        schedules = (
            sequence.runs(name)
            for name, written in hyperparameters.items()
            if isinstance(written, Mapping)
        )
        return {id(runs): runs for runs in schedules if id(runs) not in self._schedules}

    def _decision(self, number: int, request: Request) -> Decision:
        reason = f"request {number}"
        match request:
            case Suggest(hyperparameters=hyperparameters, steps=steps):
                return Decision(
                    index=self._count,
                    kind="suggest",
                    trial=len(self._targets),
                    steps=steps,
                    hyperparameters=hyperparameters,
                    request=number,
                    reason=reason,
                )
            case Promote(trial=trial, steps=steps):
                return self._about(self._trial_of[trial], "promote", steps, number, reason)
            case Stop(trial=trial):
                trial = self._trial_of[trial]
                return self._about(trial, "stop", self._farthest.get(trial, 0), number, reason)
            case Close():
                raise ValueError("to close a study takes no decision")

    def _about(
        self, trial: int, kind: str, steps: int, request: int | None, reason: str
    ) -> Decision:
        fields = {"index": self._count, "kind": kind, "trial": trial, "steps": steps}
        return Decision.model_validate({**fields, "request": request, "reason": reason})

    def _final_stops(self) -> list[Decision]:
        """Returns a stop of a trial that could continue, once a closed study is trained."""
        if self._closed is None or self._pending or self._waiting:
            return []
        trials = (trial for trial in range(len(self._targets)) if self.may_continue(trial))
        return [
            self._about(trial, "stop", self._targets[trial], None, "the study was closed")
            for trial in [*trials][:1]
        ]


def _count(schedules: Mapping[int, Runs]) -> int:
    return sum(len(runs.pieces.ends) for runs in schedules.values())
