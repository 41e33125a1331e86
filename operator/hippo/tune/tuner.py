"""The tuner: turns results into decisions, with reasons.

A tuner only issues requests ("train this sequence up to this step and report") and knows nothing of
stages, workers or files. Its state is a function of the recorded decisions, in order, and of the
set of results, so replaying both restores it. All randomness is a hash of a seed and an index.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from hippo.model import DrawingSettings, Study
from hippo.protocol.decisions import Decision
from hippo.protocol.requests import Request
from hippo.tune.ordering import Rank, rank
from hippo.tune.prefix_first import PrefixFirstDraws


@dataclass(frozen=True, slots=True)
class Result:
    """The objective of a trial at the end of a request. None: the trial failed or diverged."""

    trial: int
    step: int
    value: float | None


class Tuner(ABC):
    """Base of all algorithms: the suggested trials, their targets, and which have ended.

    The caller asks :meth:`decide`, records each decision durably, and then passes it to
    :meth:`apply`; after a restart it passes the recorded decisions instead. Not thread-safe.
    """

    learns: bool = False
    """Whether its suggestions depend on results."""
    by_order: str | None = None
    """Describes what depends on the order of results; None if nothing does."""
    for_idle_workers: ClassVar[bool] = False
    """Whether it decides only when workers are idle."""

    def __init__(
        self, study: Study, *, rungs: tuple[int, ...] | None = None, seed: int = 0
    ) -> None:
        """``rungs``: steps at which trials are compared, up to the study's steps."""
        spec = study.spec
        self.steps: int = spec.steps
        self.rungs: tuple[int, ...] = rungs if rungs is not None else (spec.steps,)
        self.seed = seed
        self._space = study.search_space()
        self._goal = spec.objective.goal
        self._max_trials = spec.max_trials
        self.window: int | None = None
        """Most trials that may await results or be promoted at once; None: no limit.

        Set by drivers that pay for each trial that they record.
        """
        settings = spec.algorithm
        self._prefix_first: PrefixFirstDraws | None = None
        if isinstance(settings, DrawingSettings) and settings.prefix_first is not None:
            self._prefix_first = PrefixFirstDraws(
                settings.prefix_first, self._space, seed, self.steps
            )
        self._targets: list[int] = []  # step that each trial was last asked to reach
        self._pending: set[int] = set()  # trials whose latest request has no result yet
        self._failed: set[int] = set()
        self._stopped: set[int] = set()
        self._results: set[tuple[int, int]] = set()  # (trial, rung) pairs already counted
        self._count = 0

    # -- what is known -----------------------------------------------------------------------------

    def apply(self, decision: Decision) -> None:
        """Applies a recorded decision, new or replayed after a restart, in order.

        Raises ValueError, and changes nothing, if it contradicts the decisions so far.
        """
        if decision.index != self._count:
            raise ValueError(f"decision {decision.index} came where {self._count} was due")
        known = len(self._targets)
        suggests = decision.kind == "suggest"
        if decision.trial != known if suggests else not 0 <= decision.trial < known:
            raise ValueError(f"decision {decision.index}: trial {decision.trial} of {known}")
        if decision.kind in ("suggest", "promote") and decision.steps not in self.rungs:
            raise ValueError(f"decision {decision.index}: step {decision.steps} is no rung")
        if decision.parent is not None and not 0 <= decision.parent < known:
            raise ValueError(f"decision {decision.index}: parent {decision.parent} of {known}")
        self._count += 1
        trial = decision.trial
        match decision.kind:
            case "suggest":
                self._targets.append(decision.steps)
                self._await(trial)
                if self._prefix_first is not None and decision.hyperparameters is not None:
                    self._prefix_first.suggested(decision.hyperparameters, decision.steps)
                self._suggested(trial)
            case "promote":
                at = self.rung_of(trial)
                self._targets[trial] = decision.steps
                self._await(trial)
                self._promoted(trial, at)
            case "stop":
                self._stopped.add(trial)
                self._pending.discard(trial)
                self._halted(trial)
            case "fail":
                self.tell(Result(trial, decision.steps, None))

    def skip(self, decision: Decision) -> None:
        """Counts a recorded decision that does not concern the tuner: one about a replicate.

        Raises ValueError if it is out of order.
        """
        if decision.index != self._count:
            raise ValueError(f"decision {decision.index} came where {self._count} was due")
        self._count += 1

    def tell(self, result: Result) -> None:
        """Records a result. Results may come in any order and repeatedly; the first of each counts.

        Results between rungs are ignored, except failures, which count at the next rung.
        """
        rung = next((k for k, step in enumerate(self.rungs) if step >= result.step), None)
        failed = rank(result.value, self._goal, self.seed, result.trial)[0]
        if rung is None or (self.rungs[rung] != result.step and not failed):
            return
        if (result.trial, rung) in self._results:
            return
        self._results.add((result.trial, rung))
        if failed:
            self._failed.add(result.trial)
        if failed or self._has_arrived(result.trial):
            self._pending.discard(result.trial)
        self._ranked(result.trial, rung, rank(result.value, self._goal, self.seed, result.trial))

    # -- what to do --------------------------------------------------------------------------------

    @abstractmethod
    def decide(self, idle: int) -> list[Decision]:
        """Returns the next decisions without changing anything.

        ``idle`` is the number of workers without work; it is used only by tuners
        ``for_idle_workers``.
        """

    asks_by_itself: ClassVar[bool] = True
    """Whether it suggests trials without being asked, until it has finished."""

    @property
    def awaits_results(self) -> bool:
        """Whether a request has no result yet."""
        return bool(self._pending)

    @property
    def exhausted(self) -> bool:
        """Whether no trial will be suggested any more."""
        return len(self._targets) >= self._limit

    @property
    def request_ends(self) -> tuple[int, ...]:
        """Steps at which a request may end and a trial pause: its state must be kept there."""
        return self.rungs

    @property
    def draws_from_space(self) -> bool:
        """Whether trials may still be drawn from the space, so that its forks may be needed."""
        return not self.exhausted

    @property
    def finished(self) -> bool:
        """Whether no decision will follow: every result is in, and every trial has ended."""
        return self.exhausted and not self._pending and self._is_settled()

    def may_continue(self, trial: int) -> bool:
        """Whether the trial may be promoted beyond its latest request."""
        ended = trial in self._stopped or trial in self._failed
        return not ended and self._targets[trial] < self.steps

    def submit(self, number: int, request: Request) -> None:
        """Takes a request of a user's program. Only external studies accept requests.

        Raises ValueError if the tuner accepts none.
        """
        raise ValueError(f"request {number} came to a tuner that takes none")

    def refusal(self) -> tuple[int, str] | None:
        """Returns a request that cannot be carried out, and why; :meth:`refuse` ends it."""
        return None

    def refuse(self, number: int) -> None:  # noqa: B027
        """Applies a recorded refusal, new or replayed after a restart."""

    def resize(self, max_trials: int | None) -> None:
        """Applies a raised maxTrials. Earlier suggestions are unchanged."""
        self._max_trials = max_trials

    # -- for algorithms ----------------------------------------------------------------------------

    # Hooks for an algorithm's own state; grid and random search need none.

    def _suggested(self, trial: int) -> None:  # noqa: B027
        """A trial was suggested."""

    def _promoted(self, trial: int, rung: int) -> None:  # noqa: B027
        """A trial was promoted from a rung."""

    def _halted(self, trial: int) -> None:  # noqa: B027
        """A trial was stopped."""

    def _ranked(self, trial: int, rung: int, rank: Rank) -> None:  # noqa: B027
        """A trial has its first result at a rung."""

    def _is_settled(self) -> bool:
        """Whether, once all results are in, no trial awaits a verdict."""
        return True

    def rung_of(self, trial: int) -> int:
        """Returns the rung that the trial is at or on its way to."""
        return self.rungs.index(self._targets[trial])

    @property
    def _limit(self) -> int:
        """Number of trials that will be suggested."""
        limits = [limit for limit in (self._max_trials, self._space.size) if limit is not None]
        assert limits, "a study of a continuous space has maxTrials"
        return min(limits)

    def _suggestions(self, most: int, steps: int, *, after: int = 0) -> list[Decision]:
        """Returns the next new trials, at most ``most``, numbered after ``after`` other decisions.

        Prefix-first draws are made one by one, so that each sees the one before.
        """
        first = len(self._targets)
        if self._prefix_first is not None:
            most = min(most, 1)
        if self.window is not None:
            most = min(most, max(0, self.window - len(self._pending)))
        decisions = []
        for trial in range(first, min(first + most, self._limit)):
            point, why = self._choice(trial)
            decisions.append(
                Decision(
                    index=self._count + after + trial - first,
                    kind="suggest",
                    trial=trial,
                    steps=self._first_target(trial, steps),
                    marks=self._marks,
                    hyperparameters=point,
                    reason=why,
                )
            )
        return decisions

    def _choice(self, trial: int) -> tuple[dict[str, Any], str]:
        """Returns the hyper-parameters of a new trial and the reason for its suggestion."""
        if self._prefix_first is None:
            return self._point(trial), self._why(trial)
        point, why = self._prefix_first.choose(lambda attempt: self._candidate(trial, attempt))
        return point, f"{self._why(trial)}: {why}"

    _marks: tuple[int, ...] = ()
    """Earlier steps at which a new trial reports without a pause."""

    def _first_target(self, trial: int, steps: int) -> int:
        """Returns the step that a new trial is to reach; ``steps`` unless trials differ."""
        return steps

    def _point(self, trial: int) -> dict[str, Any]:
        """Returns the hyper-parameters of a new trial, as the study writes them."""
        return self._candidate(trial, 0)

    def _candidate(self, trial: int, attempt: int) -> dict[str, Any]:
        """Returns one of the draws for a new trial, a function of seed, trial and attempt.

        In a finite space it also depends on the earlier suggestions; IndexError if all are drawn.
        """
        if self._space.size is None:
            return self._space.draw(self.seed, trial + (attempt << 40))
        first = trial if self._prefix_first is None else self._prefix_first.passed
        return self._space.sample(self.seed, first + attempt)

    def _why(self, trial: int) -> str:
        """Returns the reason for a suggestion."""
        return f"draw {trial + 1} of {self._limit} from the space (seed {self.seed})"

    def _await(self, trial: int) -> None:
        if trial not in self._failed and not self._has_arrived(trial):
            self._pending.add(trial)

    def _has_arrived(self, trial: int) -> bool:
        return trial < len(self._targets) and (trial, self.rung_of(trial)) in self._results
