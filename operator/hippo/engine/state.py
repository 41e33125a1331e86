"""The engine's state of studies, trials and running chains."""

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
    target: int  # step of its latest request
    marks: tuple[int, ...] = ()  # earlier steps with a report
    seed: int | None = None  # of a replicate; None: the study's own
    parent: int | None = None  # the trial that it was forked from or replicates
    state: TrialState = TrialState.PENDING
    results: dict[int, Metrics] = field(default_factory=dict)
    reason: str = ""  # why it is in this state: the last decision, or the error
    request: int | None = None  # number of the user's request that made it
    pinned: Checkpoint | None = None  # kept while the tuner may promote it

    @property
    def id(self) -> TrialId:
        return (self.study, self.index)

    @property
    def name(self) -> str:
        return f"{self.study}-{self.index}"

    @property
    def is_replicate(self) -> bool:
        """Whether it is trained under another seed, after the tuner has finished."""
        return self.seed is not None

    def is_missing_result_at(self, step: int) -> bool:
        """Whether it awaits a result at exactly this step."""
        return self.state is TrialState.PENDING and self.target == step

    @property
    def latest(self) -> tuple[int, Metrics] | None:
        """The last step with metrics, and the metrics; None without results."""
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
    """Returns the sequence of a suggested trial, and the plan's node in which it ends.

    All content keys of the trial follow from these. ``steps`` is the study's; without ``merge`` the
    trial shares nothing with any other.
    """
    assert decision.hyperparameters is not None
    sequence = Sequence.of(decision.hyperparameters, steps)
    apart = "" if merge else f"{study}-{decision.trial}"
    return sequence, plan.insert(sequence, apart=apart, seed=decision.seed)


@dataclass(slots=True, eq=False)
class StudyRun:
    """One study: its tuner, its trials, and its costs."""

    study: Study
    tuner: Tuner
    order: int  # of arrival
    started: float
    state: StudyState = StudyState.RUNNING
    message: str = ""
    end: EndReason | None = None  # why it has ended
    trials: list[TrialRun] = field(default_factory=list)
    decided: int = 0
    void: frozenset[int] = frozenset()  # indices of decisions that later ones have voided
    replaying: bool = False  # decisions of an earlier run are being applied
    failing: dict[str, str] = field(default_factory=dict)  # content key -> error message
    last_failure: Decision | None = None
    lacking: list[tuple[TrialRun, int, str]] = field(default_factory=list)
    """Trials whose metrics at a step lack the objective, with the failure message."""
    lacks_test_metric: bool = False  # and the user was told
    leaders: list[TrialRun] = field(default_factory=list)  # the best so far, best first
    leader_pins: list[Checkpoint] = field(default_factory=list)
    best: TrialRun | None = None
    is_replicating: bool = False  # the tuner has finished, and the best are replicated
    last_steps: dict[int, int] = field(default_factory=dict)
    """During a replay: trials that will be stopped or fail, and the last step whose result counts.
    Later results, reported for other trials, do not count for them."""
    stops_due: set[int] = field(default_factory=set)
    """Stopped trials whose lost result must first be computed again."""
    open_to_forks: bool = True  # its tuner may still draw trials from the space
    possible_pins: list[Checkpoint] = field(default_factory=list)
    worker_seconds: float = 0.0
    steps_trained: float = 0.0
    wall_before: float = 0.0
    wakes_at: float = -math.inf  # time of the tick requested for its budget
    _ended: int = 0  # number of leading trials known to have ended

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
        """Whether it ended early under limits that may be raised, and can resume."""
        early = self.end is not None and self.end.is_early
        return early and self.study.spec.checkpoints.retain != "none"

    @property
    def is_tuning(self) -> bool:
        """Whether its tuner may decide."""
        return self.is_active and not self.is_replicating

    def take(self, event: StudyEvent) -> None:
        self.state = advance(self.state, event)

    def has_no_trial_left(self) -> bool:
        """Whether all trials so far have ended for good; known ends are not checked again."""
        while self._ended < len(self.trials) and self.trials[self._ended].state.is_final:
            self._ended += 1
        return self._ended == len(self.trials)

    def is_about_replicate(self, decision: Decision) -> bool:
        if decision.kind == "suggest":
            return decision.seed is not None
        return self.trials[decision.trial].is_replicate

    def note_leader(self, trial: TrialRun) -> bool:
        """Ranks a trial that has a new result; returns whether the leaders have changed.

        There are as many leaders as may be replicated, or else one. Of trials that are the same
        work, one represents all.
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
        """Returns steps up to a node whose state may be needed later, beyond today's wants.

        These are steps at which this study's requests may end, forks between trials that it may
        promote, and every fork that its space makes possible while its tuner may draw trials from
        it.
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
        """Returns the objective; None if it is not finite."""
        value = metrics[self.study.spec.objective.metric]
        return value if math.isfinite(value) else None

    def standing(self, trial: TrialRun) -> tuple[int, Rank]:
        """Returns a sort key, least is best: later steps first, then the tuner's rank."""
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
        """Returns the engine's own decision about a trial, numbered after the previous one."""
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
    """A running chain and its worker.

    ``claim`` holds its promises, ``route`` the accepted route.
    """

    name: str
    study: str  # the lender, whose parallelism counts the worker
    studies: tuple[str, ...]  # studies that share the cost
    claim: Claim
    route: Route
    origin: str  # content key of its first stage; retries are counted by it
    origin_step: int  # step at which the worker began
    launched: float
    state: WorkerState = WorkerState.LAUNCHED
    begun: bool = False
    step: int = 0  # last known step end
    step_time: float = 0.0  # when it became known
    version: int = 0  # of the control object
    pending: Control | None = None  # sent and not answered
    pin: Checkpoint | None = None  # its start, until it has saved something
    trained: int = 0
    train_seconds: float = 0.0
    worker_seconds: float = 0.0
    accounted: float = 0.0  # when these figures were reported
    overhead: float = 0.0  # reported seconds besides training

    def take(self, event: WorkerEvent) -> None:
        self.state = advance(self.state, event)

    def position(self, now: float, seconds_per_step: float) -> int:
        """Returns its estimated step, never beyond the next save that it has promised."""
        if not self.begun:
            return self.step
        guess = self.step + int(max(0.0, now - self.step_time) / max(seconds_per_step, 1e-9))
        promised = [s for s in self.claim.saves() if s > self.step]
        return max(self.step, min(guess, min(promised, default=self.claim.stop_at) - 1))

    @property
    def is_waiting(self) -> bool:
        """Whether it is at the end of its route and was not given another one."""
        return self.state is WorkerState.ARRIVED and self.pending is None

    @property
    def is_leaving(self) -> bool:
        return self.state in (WorkerState.LEAVING, WorkerState.ENDED)
