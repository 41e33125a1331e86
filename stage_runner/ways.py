"""The ways in which ``verify`` trains: uninterrupted, with restores, and with evaluations."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hippo.model import Sequence
from hippo.protocol.assignments import TrainerCall
from stage_runner.checkpoints.codec import Snapshot, encode, snapshot
from stage_runner.checkpoints.digest import leaf_digests, state_digest
from stage_runner.checkpoints.restoring import restore
from stage_runner.entry_point import load_trainer
from stage_runner.environment import set_threads
from stage_runner.metrics import check_metrics
from stage_runner.randomness import seed_generators
from stage_runner.start import build_trainer
from stage_runner.trainer import Trainer

_FIRST = 3  # first steps, which are always compared
_SPREAD = 5  # further compared steps, spread evenly


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint in a file."""

    step: int
    file: str
    digest: str  # state digest


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps to train, as ``hippo verify`` passes them."""

    call: TrainerCall
    sequence: Sequence
    train_steps: int
    most_steps: int  # upper limit while no epoch has ended
    most_seconds: float  # limit of training time; the first few steps are always trained
    path: Path
    looked_at: tuple[int, ...] = ()  # compared steps; empty: chosen by ``moments``
    kept: tuple[Kept, ...] = ()  # checkpoints to continue from
    variants: Mapping[str, Sequence] = field(default_factory=dict)
    """Sequences with another, constant value of one hyper-parameter, by its name."""

    @classmethod
    def read(cls, file: Path, path: Path) -> Plan:
        """Read a plan. Raises InvalidSpec, ValueError or KeyError if the file is invalid."""
        document = json.loads(file.read_text())
        written = document["hyperparameters"]
        sequence = Sequence.of(written, document["steps"])
        steps = min(document["train_steps"], sequence.steps)
        variants = {
            name: Sequence.of({**written, name: value}, document["steps"])
            for name, value in document.get("variants", {}).items()
        }
        return cls(
            call=TrainerCall.model_validate(document["trainer"]),
            sequence=sequence,
            train_steps=steps,
            most_steps=min(max(steps, document.get("most_steps", steps)), sequence.steps),
            most_seconds=document.get("most_seconds", math.inf),
            path=path,
            looked_at=tuple(document.get("looked_at", ())),
            kept=tuple(Kept(**kept) for kept in document.get("kept", ())),
            variants=variants,
        )

    def write(self, trace: Trace, kept: Iterable[Kept] = ()) -> dict[str, Any]:
        """Return the plan with which another process trains the same steps as ``trace``, also
        from ``kept``.
        """
        return {
            "trainer": self.call.model_dump(by_alias=True),
            "hyperparameters": dict(self.sequence.hyperparameters),
            "steps": self.sequence.steps,
            "train_steps": trace.steps,
            "looked_at": list(trace.states),
            "kept": [asdict(one) for one in kept],
        }

    def moments(self) -> Iterator[int]:
        """Yield the steps to compare, as far as they are known before training."""
        yield from range(1, _FIRST + 1)
        yield from range(0, self.train_steps + 1, max(1, self.train_steps // _SPREAD))
        for change in self.sequence.changes():
            yield from (change, change + 1)
        yield self.train_steps


@dataclass(slots=True)
class Trace:
    """The result of one way of training, by the number of steps trained."""

    steps: int = 0
    states: dict[int, dict[str, str]] = field(default_factory=dict)  # leaf digests
    metrics: dict[int, dict[str, str]] = field(default_factory=dict)  # as hexadecimal floats
    restores: int = 0
    met_epoch: bool | None = None  # whether an epoch has ended; None: no epochs


class Ways:
    """Trains a plan in several ways, each with fresh trainers."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.during = "import"
        self.metrics: list[str] | None = None  # names that evaluate() returns
        self.seconds_per_step = 0.0
        self.save_seconds = 0.0
        self.checkpoint_bytes = 0
        self.kept: list[Kept] = []  # set by ``restored``
        self._setup_seconds = 0.0  # maximum so far

    def first(self) -> Trace:
        """Train uninterrupted; determines how far to train, and which steps to compare."""
        plan, trace = self._plan, Trace()
        trainer = self._set_up()
        moments = set(plan.looked_at or plan.moments())
        epochs, seconds, goal = _count_epochs(trainer), 0.0, plan.train_steps
        trace.met_epoch = None if epochs is None else False
        if epochs is not None and not plan.looked_at:
            goal = plan.most_steps
        while trace.steps < goal and not self._is_long(seconds, trace.steps):
            seconds += self._train(trainer, trace.steps)
            trace.steps += 1
            if trace.met_epoch is False and _count_epochs(trainer) != epochs:
                trace.met_epoch = True
                moments |= {trace.steps, trace.steps + 1}
                goal = max(plan.train_steps, min(trace.steps + 1, plan.most_steps))
            if trace.steps in moments:
                self._note(trainer, trace, trace.steps)
        if trace.steps not in trace.states:
            self._note(trainer, trace, trace.steps)
        self.seconds_per_step = seconds / max(1, trace.steps)
        return trace

    def straight(self, like: Trace, *, saves: bool, evaluates: bool = False) -> Trace:
        """Train uninterrupted as far as ``like``; without ``saves`` only the last state is
        taken.
        """
        trace = Trace(steps=like.steps)
        trainer = self._set_up()
        for step in range(like.steps):
            self._train(trainer, step)
            at = step + 1
            if at == like.steps or (saves and at in like.states):
                self._note(trainer, trace, at)
            if evaluates and at in like.states:
                self._evaluate(trainer, at, trace)
        return trace

    def restored(self, like: Trace, *, evaluates: bool, folder: Path) -> Trace:
        """Save, and restore in a fresh trainer, at all compared steps of ``like``, or at fewer if
        fresh trainers take long; evaluate right after each restore. Keeps a few checkpoints.

        Raises NotRestored if the trainer does not equal what was loaded.
        """
        trace = Trace(steps=like.steps)
        cuts = self._choose_cuts(list(like.states))
        early = sorted(cut for cut in cuts if cut < like.steps)
        lasting = {early[0], early[len(early) // 2], early[-1]} if early else set()
        trainer = self._set_up()
        for step in range(like.steps):
            self._train(trainer, step)
            at = step + 1
            if at not in like.states:
                continue
            taken = self._note(trainer, trace, at)
            if at not in cuts:
                continue
            data, digest = b"".join(encode(taken)), state_digest(taken)
            if at in lasting:
                file = folder / f"{at}.checkpoint"
                file.write_bytes(data)
                self.kept.append(Kept(at, str(file), digest))
            trainer = self._set_up()
            self.during = "load"
            restore(trainer, partial(bytes, data), digest=digest)
            trace.restores += 1
            if evaluates:
                self._evaluate(trainer, at, trace, "evaluate right after a restore")
        return trace

    def resumed(self, like: Trace) -> Trace:
        """Train from each checkpoint of the plan to the next one with a fresh trainer, the last
        one first, so that nothing in this process depends on earlier steps.
        """
        trace = Trace(steps=like.steps)
        end = like.steps
        for kept in sorted(self._plan.kept, key=lambda kept: kept.step, reverse=True):
            trainer = self._set_up()
            self.during = "load"
            restore(trainer, Path(kept.file).read_bytes, digest=kept.digest)
            for step in range(kept.step, end):
                self._train(trainer, step)
                if step + 1 in like.states:
                    self._note(trainer, trace, step + 1)
            end = kept.step
        return trace

    def _choose_cuts(self, steps: list[int]) -> set[int]:
        if self._plan.most_seconds == math.inf:
            return set(steps)
        affordable = int(self._plan.most_seconds / max(self._setup_seconds, 1e-6))
        return set(steps[:: math.ceil(len(steps) / max(_FIRST, affordable))])

    def _is_long(self, seconds: float, steps: int) -> bool:
        return seconds > self._plan.most_seconds and steps >= _FIRST

    def _set_up(self) -> Trainer:
        call = self._plan.call
        self.during = "import"
        set_threads(call.threads)
        trainer_class = load_trainer(call.entrypoint, self._plan.path)
        set_threads(call.threads)
        self.during = "setup"
        trainer = build_trainer(trainer_class, seed=call.seed)
        began = time.perf_counter()
        trainer.setup(deepcopy(call.config), deepcopy(self._plan.sequence.values(0)))
        self._setup_seconds = max(self._setup_seconds, time.perf_counter() - began)
        return trainer

    def _train(self, trainer: Trainer, step: int) -> float:
        self.during = "step"
        values = deepcopy(self._plan.sequence.values(step))
        seed_generators("step", self._plan.call.seed, step)
        began = time.perf_counter()
        trainer.step(values)
        return time.perf_counter() - began

    def _evaluate(self, trainer: Trainer, step: int, trace: Trace, when: str = "evaluate") -> None:
        self.during = when
        seed_generators("evaluate", self._plan.call.seed, step)
        metrics = check_metrics(trainer.evaluate())
        self.metrics = sorted(metrics)
        trace.metrics[step] = {name: value.hex() for name, value in metrics.items()}

    def _note(self, trainer: Trainer, trace: Trace, at: int) -> Snapshot:
        self.during = "save"
        began = time.perf_counter()
        taken = snapshot(trainer.state_dict())
        self.checkpoint_bytes = sum(map(len, encode(taken)))
        self.save_seconds = time.perf_counter() - began
        trace.states[at] = leaf_digests(taken)
        return taken


def _count_epochs(trainer: Trainer) -> int | None:
    """Return the number of ended epochs; None for trainers without the runner's ``Epochs``."""
    module = sys.modules.get("stage_runner.epochs")
    epochs = getattr(trainer, "epochs", None)
    return epochs.epoch if module is not None and isinstance(epochs, module.Epochs) else None
