"""Checks that a trainer keeps the law: its state at step t follows from the sequence below t.

A few steps are trained in four ways that must agree bit for bit: straight, restored from a
checkpoint before every step, with an evaluation after every step, and straight again in another
process. Where they do not, the first step and the parts of the state that differ say what the
trainer forgot to save.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hippo.model import InvalidSpec, Sequence
from hippo.store.records import TrainerCall
from stage_runner.chain import build_trainer
from stage_runner.codec import UnsavableState, decode, encode, snapshot
from stage_runner.digest import find_differences, leaf_digests
from stage_runner.environment import set_threads
from stage_runner.failures import describe
from stage_runner.loading import EntryPointError, load_trainer
from stage_runner.metrics import InvalidTrainer, check_metrics
from stage_runner.randomness import seed_generators
from stage_runner.trainer import Trainer

_SHOWN = 3  # differing parts of a state that are named


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What a way of training led to, after each step; ``metrics`` only where it was evaluated."""

    states: list[dict[str, str]] = field(default_factory=list)  # leaf digests
    metrics: list[dict[str, str]] = field(default_factory=list)  # as hexadecimal floats


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train, as ``hippo verify`` hands it over."""

    call: TrainerCall
    sequence: Sequence
    train_steps: int
    path: Path
    variants: Mapping[str, Sequence] = field(default_factory=dict)
    """By hyper-parameter: the sequence with another value of it, a constant."""

    @classmethod
    def read(cls, file: Path, path: Path) -> Plan:
        """Raises InvalidSpec, ValueError or KeyError if the file is not what it should be."""
        document = json.loads(file.read_text())
        sequence = Sequence.of(document["hyperparameters"], document["steps"])
        steps = min(document["train_steps"], sequence.steps)
        variants = {
            name: Sequence.of({**document["hyperparameters"], name: value}, document["steps"])
            for name, value in document.get("variants", {}).items()
        }
        return cls(TrainerCall.model_validate(document["trainer"]), sequence, steps, path, variants)


def main(file: Path, *, path: Path, only_digests: bool = False) -> int:
    """Print the result as JSON on standard output. 0 if the trainer keeps the law, else 1."""
    output = os.dup(1)
    os.dup2(2, 1)  # what the trainer prints is no result
    try:
        plan = Plan.read(file, path)
    except (InvalidSpec, ValueError, KeyError, OSError) as error:
        sys.stderr.write(f"--study-json {file}: {error}\n")
        return 2
    result = {"states": _Runs(plan).straight().states} if only_digests else verify(plan, file)
    sys.stdout.flush()
    with os.fdopen(output, "w") as stream:
        json.dump(result, stream)
        stream.write("\n")
    return 0 if result.get("ok", True) else 1


def verify(plan: Plan, file: Path) -> dict[str, Any]:
    """All checks, as far as the trainer gets."""
    runs = _Runs(plan)
    checks: list[Check] = []
    unused: list[str] = []
    try:
        straight = runs.straight()
        checks.append(Check("train", True, f"{plan.train_steps} steps"))
        restored = runs.restored()
        checks.append(
            _compare(
                "save and restore",
                straight.states,
                restored.states,
                "when restored from a checkpoint: something that training depends on is not in"
                " state_dict(), or load_state_dict() does not restore it",
            )
        )
        evaluated = runs.straight(evaluate=True)
        checks.append(
            _compare(
                "evaluation",
                straight.states,
                evaluated.states,
                "when evaluate() is called before: it changes what training depends on",
            )
        )
        if all(check.ok for check in checks):  # else they differ as a consequence
            checks.append(
                _compare(
                    "metrics",
                    evaluated.metrics,
                    restored.metrics,
                    "when evaluated after a restore: evaluate() needs more than state_dict() holds",
                )
            )
        checks.append(
            _compare(
                "second process",
                straight.states,
                _run_elsewhere(plan, file),
                "in another process: something random is not seeded by the runner (a generator of"
                " one's own, the order of a set, time), or a kernel is not deterministic",
            )
        )
        if all(check.ok for check in checks):
            unused = [name for name in plan.variants if _changes_nothing(plan, name, evaluated)]
    except (EntryPointError, InvalidTrainer, UnsavableState) as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        checks.append(Check(runs.during, False, str(error)))
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        checks.append(Check(runs.during, False, describe(error, plan.path)))
    return {
        "ok": all(check.ok for check in checks),
        "checks": [asdict(check) for check in checks],
        "unused": unused,
        "metrics": runs.metrics,
        "seconds_per_step": runs.seconds_per_step,
        "save_seconds": runs.save_seconds,
        "checkpoint_bytes": runs.checkpoint_bytes,
    }


class _Runs:
    """Trains a plan in several ways, each with fresh trainers."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.during = "import"
        self.metrics: list[str] | None = None  # what evaluate() returns
        self.seconds_per_step = 0.0
        self.save_seconds = 0.0
        self.checkpoint_bytes = 0

    def straight(self, *, evaluate: bool = False) -> Trace:
        trace = Trace()
        trainer = self._set_up()
        seconds = 0.0
        for step in range(self._plan.train_steps):
            seconds += self._train(trainer, step)
            self._note(trainer, trace)
            if evaluate:
                self._evaluate(trainer, step + 1, trace)
        self.seconds_per_step = seconds / self._plan.train_steps
        return trace

    def restored(self) -> Trace:
        """Saved after every step, and restored in a fresh trainer before the next one."""
        trace = Trace()
        trainer = self._set_up()
        for step in range(self._plan.train_steps):
            self._train(trainer, step)
            data = self._note(trainer, trace)
            if step + 1 < self._plan.train_steps:
                self._evaluate(trainer, step + 1, trace)
            trainer = self._set_up()
            self.during = "load"
            trainer.load_state_dict(decode(data))
        self._evaluate(trainer, self._plan.train_steps, trace)
        return trace

    def _set_up(self) -> Trainer:
        call = self._plan.call
        self.during = "import"
        set_threads(call.threads)
        trainer_class = load_trainer(call.entrypoint, self._plan.path)
        set_threads(call.threads)
        self.during = "setup"
        trainer = build_trainer(trainer_class, seed=call.seed)
        trainer.setup(call.config, dict(self._plan.sequence.values(0)))
        return trainer

    def _train(self, trainer: Trainer, step: int) -> float:
        self.during = "step"
        values = dict(self._plan.sequence.values(step))
        seed_generators("step", self._plan.call.seed, step)
        began = time.perf_counter()
        trainer.step(values)
        return time.perf_counter() - began

    def _evaluate(self, trainer: Trainer, step: int, trace: Trace) -> None:
        self.during = "evaluate"
        seed_generators("evaluate", self._plan.call.seed, step)
        metrics = check_metrics(trainer.evaluate())
        self.metrics = sorted(metrics)
        trace.metrics.append({name: value.hex() for name, value in metrics.items()})

    def _note(self, trainer: Trainer, trace: Trace) -> bytes:
        self.during = "save"
        began = time.perf_counter()
        taken = snapshot(trainer.state_dict())
        data = b"".join(encode(taken))
        self.save_seconds = time.perf_counter() - began
        self.checkpoint_bytes = len(data)
        trace.states.append(leaf_digests(taken))
        return data


def _changes_nothing(plan: Plan, name: str, trace: Trace) -> bool:
    """Whether other values of a hyper-parameter lead to the same states and metrics.

    That a state tells the value itself, under the name, is no difference.
    """
    runs = _Runs(replace(plan, sequence=plan.variants[name]))
    try:
        other = runs.straight(evaluate=True)
    except (Exception, SystemExit):  # whatever it does not bear, it has read
        return False
    told = re.compile(rf"(^|\.){re.escape(name)}($|\[|\.)")
    return other.metrics == trace.metrics and not any(
        told.search(path) is None
        for mine, theirs in zip(trace.states, other.states, strict=True)
        for path in find_differences(mine, theirs)
    )


def _compare(
    name: str, one: list[dict[str, str]], other: list[dict[str, str]], explanation: str
) -> Check:
    for step, (expected, found) in enumerate(zip(one, other, strict=True), start=1):
        parts = find_differences(expected, found)
        if parts:
            shown = ", ".join(parts[:_SHOWN])
            more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
            verb = "differs" if len(parts) == 1 else "differ"
            return Check(name, False, f"{shown}{more} {verb} after step {step} {explanation}")
    return Check(name, True, f"equal after each of {len(one)} steps")


def _run_elsewhere(plan: Plan, file: Path) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "stage_runner", "verify", "--digests"]
    command += ["--study-json", str(file), "--path", str(plan.path)]
    environment = {**os.environ, "PYTHONHASHSEED": "random"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    states: list[dict[str, str]] = json.loads(done.stdout)["states"]
    return states
