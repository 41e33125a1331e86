"""A whole world in virtual time for the engine: workers, their store, faults. Deterministic.

Its workers obey the protocol of ``hippo.protocol.records`` to the letter, and train a model whose
state is a hash over all values it has seen, so that any step that is skipped, doubled, or trained
under wrong values shows in every later metric. Steps are counted by the trainers themselves.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hippo.engine import Engine
from hippo.engine.commands import (
    Command,
    DeleteCheckpoint,
    Finish,
    Halt,
    Launch,
    Notify,
    Record,
    Steer,
    WakeAt,
)
from hippo.engine.events import (
    Adopted,
    Event,
    Reported,
    StudyAdded,
    StudyChanged,
    Tick,
    WorkerGone,
    WorkersChanged,
)
from hippo.engine.options import EngineOptions
from hippo.engine.reopening import LOCAL, Spending, reconsider
from hippo.lifecycles import End
from hippo.model import Sequence, Study, parse_study
from hippo.plan import CostModel, Overheads, SearchPlan, StoredCheckpoint
from hippo.protocol.assignments import Assignment, Control, Route
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Outcome,
    Report,
    WorkerError,
)

SIGNATURE = "signature"


def build_study(name: str = "s", **spec: Any) -> Study:
    """A study document with everything that is not being tested filled in."""
    trainer = {"entrypoint": "trainer:T", "config": {}}
    document = {
        "objective": {"metric": "score", "goal": "maximize"},
        "steps": 12,
        "algorithm": {"name": "grid"},
        "trainer": trainer,
        **spec,
    }
    return parse_study(
        {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": name},
            "spec": document,
        }
    )


def with_spec(study: Study, **fields: Any) -> Study:
    """The study with other values in its spec, by their names in Python."""
    return study.model_copy(update={"spec": study.spec.model_copy(update=fields)})


def train(state: str, step: int, values: dict[str, Any]) -> str:
    """One step of the model."""
    return hashlib.sha256(f"{state} {step} {sorted(values.items())}".encode()).hexdigest()


def seeded_state(seed: int) -> str:
    """The state at step 0."""
    return f"seed {seed}" if seed else ""


def evaluate(state: str) -> dict[str, float]:
    return {"score": int(hashlib.sha256(state.encode()).hexdigest()[:8], 16) / 2**32}


def train_alone(
    hyperparameters: dict[str, Any], horizon: int, steps: int, seed: int = 0
) -> tuple[str, dict[str, float]]:
    """What training one trial from step 0 gives: the oracle."""
    sequence = Sequence.of(hyperparameters, horizon)
    state = seeded_state(seed)
    for step in range(steps):
        state = train(state, step, sequence.values(step))
    return state, evaluate(state)


@dataclass
class Costs:
    """Seconds of virtual time."""

    step: float = 1.0
    start: float = 0.0
    load: float = 0.0
    save: float = 0.0
    evaluate: float = 0.0
    linger: float = 0.0


@dataclass
class World:
    studies: list[Study]
    workers: int = 2
    costs: Costs = field(default_factory=Costs)
    merge: bool = True
    known_costs: bool = True
    longest_route: int | None = None
    patience: float = 3600.0
    step_seconds: Callable[[dict[str, Any]], float] | None = None
    fail: Callable[[str, int], str | None] = lambda key, attempt: None  # by key after the step
    score: Callable[[str], dict[str, float]] = evaluate
    now: float = 0.0
    checkpoints: dict[str, tuple[int, str]] = field(default_factory=dict)
    metrics: dict[str, tuple[int, dict[str, float]]] = field(default_factory=dict)
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    ended: dict[str, Finish] = field(default_factory=dict)
    ended_under: dict[str, Study] = field(default_factory=dict)
    spent: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Worker-seconds, steps and active seconds of studies in earlier runs."""
    retry: set[str] = field(default_factory=set)  # studies whose failed trials are tried again
    verdicts: dict[str, str] = field(default_factory=dict)  # on studies that had ended
    trained: Counter[str] = field(default_factory=Counter)
    deleted: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    halted: str | None = None
    launches: list[Assignment] = field(default_factory=list)
    log: list[Command] = field(default_factory=list)
    engine: Engine = field(init=False)
    is_down: bool = False  # nobody reads reports, and nobody decides; workers go on
    _unread: dict[str, list[Report]] = field(default_factory=dict)  # of chains not seen to end
    _controls: dict[str, Control] = field(default_factory=dict)
    _running: dict[str, Iterator[float]] = field(default_factory=dict)
    _preempt: set[str] = field(default_factory=set)
    _heap: list[tuple[float, bool, int, str]] = field(default_factory=list)
    """(time, whether it is a worker, count, its chain): at one moment, ticks come first."""
    _count: int = 0
    _sequence_numbers: Counter[str] = field(default_factory=Counter)
    _generation: int = 0
    _attempts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.start_engine()

    # -- the driver's part -------------------------------------------------------------------------

    def start_engine(self, *, adopt: bool = False) -> None:
        """A fresh engine, with what is durable; all workers of the last one are dead.

        ``adopt``: they are still at work, as pods are when their operator is gone.
        """
        self.is_down = False
        if not adopt:
            self._running.clear()
            self._heap.clear()
            self._controls.clear()
            self._preempt.clear()
        self._generation += 1
        if self._generation > 1:
            for run in self.engine.studies.values():
                wall = run.wall_before + (self.engine.now - run.started) * run.is_active
                self.spent[run.name] = run.worker_seconds, run.steps_trained, wall
        plan = SearchPlan(SIGNATURE)
        plan.recall(
            [StoredCheckpoint(key, step) for key, (step, _) in self.checkpoints.items()],
            [(key, step, values) for key, (step, values) in self.metrics.items()],
        )
        model = CostModel(
            step=self.costs.step,
            overheads=Overheads(
                self.costs.start, self.costs.load, self.costs.save, self.costs.evaluate
            ),
            is_stated=self.known_costs,
        )
        options = EngineOptions(
            chain_prefix=f"g{self._generation}",
            merge=self.merge,
            linger=self.costs.linger,
            longest_route=self.longest_route,
            patience=self.patience,
        )
        self.engine = Engine(plan, options, costs=model)
        for study in self.studies:
            more_follow = adopt or study is not self.studies[-1]
            self.feed(replace(self._admit(study), more_follow=more_follow))
        ended = self._adopt() if adopt else []
        self.feed(WorkersChanged(self.workers))
        for report in ended:
            self.feed(Reported(report))

    def _admit(self, study: Study) -> StudyAdded:
        """As its driver does: a study that has ended goes on if its limits allow it now."""
        name = study.name
        finish = self.ended.get(name)
        end = End(finish.state, finish.message, finish.reason) if finish is not None else None
        worker, steps, wall = self.spent.get(name, (0.0, 0.0, 0.0))
        known = self.decisions.setdefault(name, [])
        verdict = None
        if end is not None or name in self.retry:
            verdict = reconsider(
                study,
                known,
                end,
                before=self.ended_under.get(name, study),
                spent=Spending(worker, wall),
                retry=name in self.retry,
                advice=LOCAL,
            )
            self.verdicts[name] = verdict.why
        self.retry.discard(name)
        if verdict is not None and verdict.goes_on:
            known += verdict.decisions
            self.ended.pop(name, None)
        return StudyAdded(
            study,
            decisions=tuple(known),
            worker_seconds=worker,
            steps_trained=steps,
            wall_seconds=wall,
            ended=end,
            reopened=end is not None and verdict is not None and verdict.goes_on,
        )

    def _adopt(self) -> list[Report]:
        """Tell the engine of all workers that have not been seen to end; returns how some have."""
        ended: list[Report] = []
        for assignment in self.launches:
            reports = self._unread.get(assignment.chain)
            if reports is None:
                continue
            if reports and isinstance(reports[-1], Ended):
                ended.append(reports[-1])
            self.feed(
                Adopted(
                    assignment,
                    study=assignment.studies[0],
                    control=self._controls.get(assignment.chain),
                    reports=tuple(r for r in reports if not isinstance(r, Ended)),
                    more_follow=True,
                )
            )
        return ended

    def feed(self, event: Event) -> None:
        for command in self.engine.handle(event, self.now):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        self.log.append(command)
        match command:
            case Record(study, decision):
                known = self.decisions.setdefault(study, [])
                assert decision.index == len(known)
                known.append(decision)
            case Launch(assignment):
                assert len(self._running) < self.workers, "more workers than there may be"
                self.launches.append(assignment)
                self._unread[assignment.chain] = []
                self._running[assignment.chain] = self._worker(assignment)
                self._schedule(assignment.chain, 0.0)
            case Steer(control):
                self._controls[control.chain] = control
            case DeleteCheckpoint(key):
                self.checkpoints.pop(key, None)
                self.deleted.append(key)
            case Finish(name):
                self.ended[name] = command
                self.ended_under[name] = self.engine.studies[name].study
            case Notify(message):
                self.notices.append(message)
            case WakeAt(moment):
                self._count += 1
                heapq.heappush(self._heap, (max(moment, self.now), False, self._count, ""))
            case Halt(message):
                self.halted = message

    # -- time --------------------------------------------------------------------------------------

    def _schedule(self, chain: str, seconds: float) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + seconds, True, self._count, chain))

    def advance(self) -> bool:
        """Let the next thing happen; False if nothing is left to happen."""
        if not self._heap:
            return False
        self.now, _, _, chain = heapq.heappop(self._heap)
        if not chain:
            if not self.is_down:
                self.feed(Tick())
        elif chain in self._running:
            try:
                pause = next(self._running[chain])
            except StopIteration:
                self._running.pop(chain, None)
            else:
                if chain in self._running:
                    self._schedule(chain, pause)
        return True

    def run(self, limit: int = 50_000) -> World:
        for _ in range(limit):
            if self.engine.is_finished or not self.advance():
                break
        assert self.engine.is_finished, (
            f"stuck at {self.now}: {[run.state for run in self.engine.studies.values()]},"
            f" chains {list(self.engine.chains)}, ready {len(self.engine.frontier.ready)}"
        )
        return self

    # -- users -------------------------------------------------------------------------------------

    def add(self, study: Study) -> None:
        """A study comes while others run, or after them."""
        self.studies.append(study)
        self.feed(StudyAdded(study))

    def change(self, name: str, **fields: Any) -> None:
        """A study is edited."""
        index = next(i for i, study in enumerate(self.studies) if study.name == name)
        self.studies[index] = with_spec(self.studies[index], **fields)
        self.feed(StudyChanged(self.studies[index]))

    def run_again(self, name: str, *, retry: bool = False, **fields: Any) -> World:
        """A study is edited after a run, and run again."""
        index = next(i for i, study in enumerate(self.studies) if study.name == name)
        self.studies[index] = with_spec(self.studies[index], **fields)
        self.retry |= {name} if retry else set()
        self.start_engine()
        return self

    def run_disturbed(self, dice: random.Random, limit: int = 20_000) -> World:
        """To the end, with something bad now and then."""
        for _ in range(limit):
            if self.engine.is_finished:
                break
            assert self.advance(), "nothing is left to happen, and studies have not ended"
            if dice.random() < 0.05:
                self.disturb(dice)
        assert self.engine.is_finished
        return self

    # -- faults ------------------------------------------------------------------------------------

    @property
    def running(self) -> list[str]:
        return sorted(self._running)

    def kill(
        self, chain: str, outcome: Outcome = Outcome.LOST, error: WorkerError | None = None
    ) -> None:
        del self._running[chain], self._unread[chain]
        step = self.engine.chains[chain].step
        error = error or WorkerError(during="step", message="killed", step=step)
        self.feed(WorkerGone(chain, outcome, error))

    def preempt(self, chain: str) -> None:
        self._preempt.add(chain)

    def disturb(self, dice: random.Random) -> None:
        """Something bad, or nothing, to one worker or to the engine."""
        what = dice.random()
        if what < 0.2:
            self.start_engine()
        elif self.running:
            chain = dice.choice(self.running)
            if what < 0.4:
                self.kill(chain, Outcome.PREEMPTED)
            elif what < 0.7:
                self.preempt(chain)

    def run_with_restarts(self, dice: random.Random, limit: int = 20_000) -> World:
        """To the end; the driver is killed now and then, and its workers are adopted."""
        for _ in range(limit):
            if not self.is_down and self.engine.is_finished:
                return self
            if self.is_down and (dice.random() < 0.2 or not self._heap):
                self.start_engine(adopt=True)
            elif not self.is_down and dice.random() < 0.1:
                self.is_down = True
            else:
                self.advance()
        raise AssertionError("it does not end")

    # -- workers -----------------------------------------------------------------------------------

    def _report(self, make: type[Any], chain: str, **fields: Any) -> None:
        if chain not in self._running:
            return
        number = self._sequence_numbers[chain]
        self._sequence_numbers[chain] += 1
        report: Report = make(chain=chain, sequence_number=number, **fields)
        if isinstance(report, MetricsReported):
            self.metrics.setdefault(report.key, (report.step, report.metrics))
        self._unread[chain].append(report)
        if isinstance(report, Ended):
            self._running.pop(chain)
        if self.is_down:
            return
        self.feed(Reported(report))
        if isinstance(report, Ended):
            del self._unread[chain]

    def _worker(self, a: Assignment) -> Iterator[float]:
        chain, route, t, version = a.chain, a.route, a.start, 0
        begun = self.now
        sequence = Sequence.of(route.hyperparameters, route.steps)
        # Another seed begins with another state, as it would with other weights.
        state, trained, seconds = seeded_state(a.trainer.seed), 0, 0.0

        def common(step: int) -> dict[str, Any]:
            return {
                "chain": chain,
                "step": step,
                "trained": trained,
                "train_seconds": seconds,
                "worker_seconds": self.now - begun,
            }

        yield self.costs.start + (self.costs.load if a.start else 0.0)
        if a.start:
            assert a.start_key is not None
            if a.start_key not in self.checkpoints:
                error = WorkerError(during="load", message="its manifest is missing", step=t)
                self._report(Ended, **common(t), outcome=Outcome.CORRUPT, error=error)
                return
            assert self.checkpoints[a.start_key][0] == a.start
            state = self.checkpoints[a.start_key][1]
            assert sequence.key(a.start, a.signature) == a.start_key
        self._report(
            Began,
            **common(t),
            studies=a.studies,
            fingerprint={},
            start_seconds=self.costs.start,
            load_seconds=self.costs.load,
        )
        saved = {a.start} if a.start else set()
        evaluated: set[int] = set()
        outcome = Outcome.COMPLETED
        arrived = False
        while chain in self._running:
            control = self._controls.get(chain)
            if control is not None and control.version > version:
                version = control.version
                accepted = can_take(control.route, route, sequence, t)
                if accepted:
                    route = control.route
                    sequence = Sequence.of(route.hyperparameters, route.steps)
                    if route.stop_at <= t:
                        outcome = Outcome.STOPPED
                    arrived = False
                self._report(ControlAnswered, **common(t), version=version, accepted=accepted)
            stopping = t >= route.stop_at or chain in self._preempt
            save = t in route.save_at or (stopping and route.save_at_stop)
            if save and t > 0 and t not in saved:
                saved.add(t)
                key = sequence.key(t, a.signature)
                yield self.costs.save
                if chain not in self._running:
                    return
                existed = key in self.checkpoints
                differs = existed and self.checkpoints[key][1] != state
                self.checkpoints.setdefault(key, (t, state))
                self._report(
                    CheckpointSaved,
                    **common(t),
                    key=key,
                    size=1,
                    state_digest=state,
                    copy_seconds=self.costs.save,
                    write_seconds=0.0,
                    existed=existed,
                    differs=differs,
                )
                if t not in route.evaluate_at or t in evaluated:
                    continue  # a control may have come meanwhile
            if t in route.evaluate_at and t not in evaluated:
                evaluated.add(t)
                yield self.costs.evaluate
                if chain not in self._running:
                    return
                self._report(
                    MetricsReported,
                    **common(t),
                    key=sequence.key(t, a.signature),
                    metrics=self.score(state),
                    evaluate_seconds=self.costs.evaluate,
                )
                continue  # likewise
            if chain in self._preempt:
                self._preempt.discard(chain)
                self._report(Ended, **common(t), outcome=Outcome.PREEMPTED)
                return
            if stopping:
                if a.linger_seconds and not arrived and outcome is Outcome.COMPLETED:
                    arrived = True
                    self._report(Arrived, **common(t))
                    yield a.linger_seconds / 2
                    continue
                self._report(Ended, **common(t), outcome=outcome)
                return
            values = sequence.values(t)
            cost = self.step_seconds(values) if self.step_seconds else self.costs.step
            yield cost
            if chain not in self._running:
                return
            key = sequence.key(t + 1, a.signature)
            self._attempts[key] += 1
            message = self.fail(key, self._attempts[key])
            if message is not None:
                error = WorkerError(during="step", message=message, step=t)
                self._report(Ended, **common(t), outcome=Outcome.FAILED, error=error)
                return
            state = train(state, t, values)
            t += 1
            trained += 1
            seconds += cost
            self.trained[key] += 1


def can_take(new: Route, old: Route, sequence: Sequence, t: int) -> bool:
    """The rule of ``records.Control``."""
    if new.stop_at <= t:
        return True
    other = Sequence.of(new.hyperparameters, new.steps)
    if t > 0 and sequence.agreement(other) < t:
        return False
    asked = (set(new.save_at) - set(old.save_at)) | (set(new.evaluate_at) - set(old.evaluate_at))
    return all(step >= t for step in asked)
