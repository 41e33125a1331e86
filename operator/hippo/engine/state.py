"""The engine's state of a study, its trials, and the chains that run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hippo.lifecycles import (
    EndReason,
    StudyEvent,
    StudyState,
    TrialEvent,
    TrialState,
    WorkerEvent,
    WorkerState,
    advance,
    blame,
)
from hippo.model import Sequence, Space, Study
from hippo.plan import NO_WORK, Checkpoint, Claim, Lead, Metrics, Node, SearchPlan, TrialId
from hippo.protocol.assignments import Control, Route
from hippo.protocol.decisions import Decision, format_of
from hippo.tune import Rank, Tuner, rank


@dataclass(slots=True, eq=False)
class TrialRun:
    """One trial: its sequence, its target and its results."""

    study: str
    index: int
    sequence: Sequence
    node: Node
    target: int  # the step of its latest request
    marks: tuple[int, ...] = ()  # steps before it with a report on the way
    seed: int | None = None  # of a replicate; None: the study's own
    parent: int | None = None  # whose beginning it took over, or of which it is a replicate
    state: TrialState = TrialState.PENDING
    results: dict[int, Metrics] = field(default_factory=dict)
    reason: str = ""  # why it is as it is: the last decision, or the error
    request: int | None = None  # of the user's program that made it
    pinned: Checkpoint | None = None  # kept while the tuner may ask for more

    @property
    def id(self) -> TrialId:
        return (self.study, self.index)

    @property
    def name(self) -> str:
        return f"{self.study}-{self.index}"

    @property
    def is_replicate(self) -> bool:
        """Whether it is trained under another seed, after the tuner has ended."""
        return self.seed is not None

    def is_missing_result_at(self, step: int) -> bool:
        """Whether it waits for a result at just this step."""
        return self.state is TrialState.PENDING and self.target == step

    @property
    def latest(self) -> tuple[int, Metrics] | None:
        """The last step with metrics, and them."""
        if not self.results:
            return None
        step = max(self.results)
        return step, self.results[step]

    @property
    def latest_key(self) -> str | None:
        """The content key of its last result."""
        if self.latest is None:
            return None
        step = self.latest[0]
        return self.node.at(step).key(step)

    def take(self, event: TrialEvent) -> None:
        self.state = advance(self.state, event)


def place_trial(
    plan: SearchPlan, study: str, decision: Decision, steps: int, *, merge: bool
) -> tuple[Sequence, Node]:
    """The sequence of a suggested trial, and the node of the plan in which it ends.

    All content keys of the trial follow from this. ``steps``: the study's; without ``merge`` the
    trial shares nothing with any other.
    """
    assert decision.hyperparameters is not None
    sequence = Sequence.of(decision.hyperparameters, steps)
    apart = "" if merge else f"{study}-{decision.trial}"
    return sequence, plan.insert(sequence, apart=apart, seed=decision.seed)


@dataclass(slots=True, eq=False)
class StudyRun:
    """One study: its tuner, its trials, and what it has cost."""

    study: Study
    tuner: Tuner
    order: int  # of arrival
    started: float
    state: StudyState = StudyState.RUNNING
    message: str = ""
    end: EndReason | None = None  # why it has ended
    trials: list[TrialRun] = field(default_factory=list)
    decided: int = 0
    void: frozenset[int] = frozenset()  # decisions that a later one has taken back, by index
    replaying: bool = False  # decisions of an earlier run are being applied
    failing: dict[str, str] = field(default_factory=dict)  # content key -> what went wrong there
    last_failure: Decision | None = None
    lacking: list[tuple[TrialRun, int, str]] = field(default_factory=list)
    """Trials whose metrics at a step lack the objective, and the message that says so."""
    lacks_test_metric: bool = False  # and said so
    leaders: list[TrialRun] = field(default_factory=list)  # the best so far, best first
    leader_pins: list[Checkpoint] = field(default_factory=list)
    best: TrialRun | None = None
    is_replicating: bool = False  # the tuner has ended, and the best are trained again
    last_steps: dict[int, int] = field(default_factory=dict)
    """While decisions are replayed: trials that are to be stopped or to fail, and the last step
    whose result counts. Later results, made known by others, do not count for them."""
    stops_due: set[int] = field(default_factory=set)
    """Stopped trials that must first find a result again."""
    open_to_forks: bool = True  # its tuner may still draw trials from the space
    possible_pins: list[Checkpoint] = field(default_factory=list)
    worker_seconds: float = 0.0
    steps_trained: float = 0.0
    wall_before: float = 0.0
    wakes_at: float = -math.inf  # when it has asked to be looked at because of its budget
    _ended: int = 0  # so many of the first trials are known to have ended

    @property
    def name(self) -> str:
        return self.study.name

    @property
    def lead(self) -> Lead:
        priority = self.study.spec.priority if self.is_active else NO_WORK
        return (priority, -self.order, self.name)

    @property
    def is_active(self) -> bool:
        return self.state is StudyState.RUNNING

    @property
    def is_interrupted(self) -> bool:
        """Whether it ended early under limits that may be raised, so that what its trials need to
        go on is kept.
        """
        early = self.end is not None and self.end.is_early
        return early and self.study.spec.checkpoints.retain != "none"

    @property
    def is_tuning(self) -> bool:
        """Whether its tuner may decide."""
        return self.is_active and not self.is_replicating

    def take(self, event: StudyEvent) -> None:
        self.state = advance(self.state, event)

    def has_no_trial_left(self) -> bool:
        """Whether all trials so far have ended, for good; what was looked at once is skipped."""
        while self._ended < len(self.trials) and self.trials[self._ended].state.is_final:
            self._ended += 1
        return self._ended == len(self.trials)

    def is_about_replicate(self, decision: Decision) -> bool:
        if decision.kind == "suggest":
            return decision.seed is not None
        return self.trials[decision.trial].is_replicate

    def note_leader(self, trial: TrialRun) -> bool:
        """Rank a trial that has a new result; returns whether the best have changed.

        There are as many leaders as may be replicated, else one. One trial stands for all that are
        the same work.
        """
        spec = self.study.spec
        most = spec.replicate_best if spec.replicates else 1
        candidates = sorted({*self.leaders, trial}, key=self.standing)
        leaders = list({leader.latest_key: leader for leader in reversed(candidates)}.values())
        leaders = leaders[::-1][:most]
        has_changed = leaders != self.leaders or trial in leaders
        self.leaders, self.best = leaders, leaders[0]
        return has_changed

    def possible_needs(self, node: Node) -> set[int]:
        """Steps on the way to a node whose state may come to be needed, though nobody asks yet.

        These are steps where this study's requests may end; forks between trials, which it may
        promote; and every fork that its space makes possible, as long as its tuner may draw trials
        from it.
        """
        sequence = node.sequence
        space = self.study.search_space()
        promotes = len(self.tuner.request_ends) > 1
        if (
            not self.is_active
            or not (self.open_to_forks or promotes)
            or tuple(space.names) != tuple(sequence.names)
            or node.seed is not None
        ):
            return set()
        with blame(self.name):
            return self._possible_needs(node, space)

    def _possible_needs(self, node: Node, space: Space) -> set[int]:
        sequence = node.sequence
        steps = {end for end in self.tuner.request_ends if end <= node.end}
        steps.update(upper.end for upper in node.path() if upper.forks_at(upper.end))
        if self.open_to_forks:
            steps.update(step for step in space.fork_steps(sequence) if step <= node.end)
        return steps

    def objective(self, metrics: Metrics) -> float | None:
        """The value to compare by; None if it is not finite."""
        value = metrics[self.study.spec.objective.metric]
        return value if math.isfinite(value) else None

    def standing(self, trial: TrialRun) -> tuple[int, Rank]:
        """Least is best: a farther result beats an earlier one, then the tuner's rank decides."""
        latest = trial.latest
        assert latest is not None
        step, metrics = latest
        goal = self.study.spec.objective.goal
        return -step, rank(self.objective(metrics), goal, self.tuner.seed, trial.index)

    def has_reached_target(self, metrics: Metrics) -> bool:
        objective = self.study.spec.objective
        value = self.objective(metrics)
        if objective.target is None or value is None:
            return False
        return (
            value <= objective.target if objective.goal == "minimize" else value >= objective.target
        )

    def decision(self, kind: str, trial: TrialRun, *, steps: int, reason: str) -> Decision:
        """The engine's own decision about a trial, numbered after the tuner's."""
        return Decision.model_validate(
            {
                "format_version": format_of(kind),
                "index": self.decided,
                "kind": kind,
                "trial": trial.index,
                "steps": steps,
                "reason": reason,
            }
        )


@dataclass(slots=True, eq=False)
class ChainRun:
    """A running chain and its worker. ``claim`` holds its promises, ``route`` the route that it has
    accepted.
    """

    name: str
    study: str  # which lends the worker
    studies: tuple[str, ...]  # which share the cost
    claim: Claim
    route: Route
    origin: str  # content key of its first stage: retries are counted by it
    origin_step: int  # where the worker began
    launched: float
    state: WorkerState = WorkerState.LAUNCHED
    begun: bool = False
    step: int = 0  # last step end known
    step_time: float = 0.0  # when it was known
    version: int = 0  # of the control object
    pending: Control | None = None  # sent and not answered
    pin: Checkpoint | None = None  # its start, until it has saved something
    trained: int = 0
    train_seconds: float = 0.0
    worker_seconds: float = 0.0
    accounted: float = 0.0  # when these figures were reported
    overhead: float = 0.0  # seconds that its reports tell of beside training

    def take(self, event: WorkerEvent) -> None:
        self.state = advance(self.state, event)

    def position(self, now: float, seconds_per_step: float) -> int:
        """Its estimated step, never beyond the next save that it has promised."""
        if not self.begun:
            return self.step
        guess = self.step + int(max(0.0, now - self.step_time) / max(seconds_per_step, 1e-9))
        promised = [s for s in self.claim.saves() if s > self.step]
        return max(self.step, min(guess, min(promised, default=self.claim.stop_at) - 1))

    @property
    def is_waiting(self) -> bool:
        """At the end of its route, and not told yet what to do next."""
        return self.state is WorkerState.ARRIVED and self.pending is None

    @property
    def is_leaving(self) -> bool:
        return self.state in (WorkerState.LEAVING, WorkerState.ENDED)
