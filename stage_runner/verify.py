"""Checks that a trainer's state at step t depends only on the sequence below t.

Some steps are trained in several ways that must agree bit for bit (``stage_runner.ways``). If they
differ, the way, the first step and the differing parts of the state identify the cause.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hippo.model import InvalidSpec
from stage_runner.checkpoints.codec import UnsavableState
from stage_runner.checkpoints.digest import find_differences, name_differences
from stage_runner.checkpoints.restoring import NotRestored
from stage_runner.entry_point import EntryPointError
from stage_runner.failures import describe, print_traceback, say
from stage_runner.metrics import InvalidTrainer
from stage_runner.ways import Kept, Plan, Trace, Ways
from stage_runner.worker import print_to_log

_VARIANT_STEPS = 8  # steps trained with another value of a hyper-parameter

_RANDOM = (
    "something random is not seeded by the runner (a generator of one's own, the order of a set,"
    " time), or a kernel is not deterministic"
)
_OUTSIDE = (
    "a step changes something outside of the trainer (a setting of a library, a module's variable,"
    " an attribute of a class, a file), and load_state_dict() does not bring it back"
)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    kind: Literal["ok", "differs", "failed"]  # failed: an exception was raised
    detail: str

    @property
    def ok(self) -> bool:
        return self.kind == "ok"


class _Failed(Exception):
    """A check has failed, and the following checks would be meaningless."""


def main(file: Path, *, path: Path, only_digests: bool = False) -> int:
    """Print the result as JSON on standard output.

    Returns 0 if all checks pass, 1 if not, 2 if the input is invalid.
    """
    output = os.dup(1)
    os.dup2(2, 1)  # keeps the trainer's output out of the result
    print_to_log()
    try:
        plan = Plan.read(file, path)
    except (InvalidSpec, ValueError, KeyError, OSError) as error:
        say(f"--study-json {file}: {error}")
        return 2
    verification = _Verification(plan)
    result = verification.train_only() if only_digests else verification.run()
    sys.stdout.flush()
    with os.fdopen(output, "w", encoding="utf-8") as stream:
        json.dump(result, stream)
        stream.write("\n")
    return 0 if result.get("ok", True) else 1


class _Verification:
    """Runs all checks of one plan, as far as the trainer gets."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._ways = Ways(plan)
        self._checks: list[Check] = []
        self._unused: list[str] = []
        self._trace = Trace()
        self._resumed = Trace()
        self._folder = Path()  # of checkpoints

    def run(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            self._catch(self._check_all)
        ways, trace = self._ways, self._trace
        return {
            "ok": all(check.ok for check in self._checks),
            "checks": [{**asdict(check), "ok": check.ok} for check in self._checks],
            "unused": self._unused,
            "unused_steps": min(_VARIANT_STEPS, trace.steps),
            "steps": trace.steps,
            "unmet": self._find_unmet(),
            "metrics": ways.metrics,
            "seconds_per_step": ways.seconds_per_step,
            "save_seconds": ways.save_seconds,
            "checkpoint_bytes": ways.checkpoint_bytes,
        }

    def train_only(self) -> dict[str, Any]:
        """Train and return the digests of all states; runs in the second process."""
        self._catch(self._train_elsewhere)
        if self._checks:
            return {"failed": f"{self._checks[0].name}: {self._checks[0].detail}"}
        return {"states": self._trace.states, "resumed": self._resumed.states}

    def _train_elsewhere(self) -> None:
        plan = self._plan
        like = Trace(steps=plan.train_steps, states={step: {} for step in plan.looked_at})
        self._resumed = self._ways.resumed(like)
        self._train_straight()

    def _train_straight(self) -> None:
        self._trace = self._ways.first()

    def _catch(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _Failed:
            pass
        except (EntryPointError, InvalidTrainer, UnsavableState) as error:
            if error.__cause__ is not None:
                print_traceback(error.__cause__)
            self._checks.append(Check(self._ways.during, "failed", str(error)))
        except (Exception, SystemExit) as error:
            print_traceback(error)
            self._checks.append(
                Check(self._ways.during, "failed", describe(error, self._plan.path))
            )

    def _check_all(self) -> None:
        self._train_straight()
        trace = self._trace
        self._checks.append(Check("train", "ok", self._tell_steps()))
        self._check_repeat()
        evaluated = self._ways.straight(trace, saves=True, evaluates=True)
        disturbs = not self._compare(
            "evaluation",
            trace.states,
            evaluated.states,
            "if evaluate() is called on the way: it changes what training depends on",
        )
        restored = self._check_restored(evaluates=not disturbs)
        if restored is not None and not disturbs:
            self._compare(
                "metrics",
                {step: evaluated.metrics[step] for step in restored.metrics},
                restored.metrics,
                "when evaluated right after a restore: evaluate() needs more than state_dict()"
                " holds",
            )
        self._check_elsewhere(self._ways.kept if restored is not None else ())
        if all(check.ok for check in self._checks):
            self._unused = [
                name for name in self._plan.variants if self._changes_nothing(name, evaluated)
            ]

    def _check_repeat(self) -> None:
        """Train again, without saves. If the result differs, the other checks would tell nothing
        more about the trainer.
        """
        trace = self._trace
        quiet = self._ways.straight(trace, saves=False)
        end = {trace.steps: trace.states[trace.steps]}
        if not find_differences(end[trace.steps], quiet.states[trace.steps]):
            self._checks.append(Check("repeat", "ok", f"equal after {trace.steps} steps"))
            return
        again = self._ways.straight(trace, saves=True)
        cause = _OUTSIDE if self._is_equal_elsewhere() else _RANDOM
        if not self._compare(
            "repeat", trace.states, again.states, f"when trained again in one process: {cause}"
        ):
            raise _Failed
        self._checks.pop()
        self._compare(
            "saving",
            end,
            quiet.states,
            "if state_dict() was not called on the way: it changes what training depends on",
        )
        raise _Failed

    def _check_restored(self, *, evaluates: bool) -> Trace | None:
        """Two faults: what was loaded is not there; it is there, and is not all that matters."""
        try:
            restored = self._ways.restored(self._trace, evaluates=evaluates, folder=self._folder)
        except NotRestored as error:
            self._checks.append(Check("restore", "differs", str(error)))
            return None
        self._checks.append(
            Check("restore", "ok", f"what was loaded is there, {restored.restores} times")
        )
        is_whole = self._compare(
            "save and restore",
            self._trace.states,
            restored.states,
            "when restored before from a checkpoint: state_dict() does not hold all that training"
            " depends on",
        )
        return restored if is_whole else None

    def _check_elsewhere(self, kept: Iterable[Kept]) -> None:
        """Straight through, and from the checkpoints ``kept``."""
        found = _run_elsewhere(self._plan, self._trace, kept)
        if isinstance(found, str):
            self._checks.append(Check("second process", "failed", found))
            return
        states, resumed = found
        explanation = f"in another process: {_RANDOM}"
        if not self._compare("second process", self._trace.states, states, explanation):
            return
        told = self._checks.pop()
        expected = {step: self._trace.states[step] for step in sorted(resumed)}
        explanation = f"when restored before in another process: {_OUTSIDE}"
        if self._compare("second process", expected, resumed, explanation):
            self._checks[-1] = told

    def _is_equal_elsewhere(self) -> bool:
        found = _run_elsewhere(self._plan, self._trace)
        return not isinstance(found, str) and found[0] == self._trace.states

    def _compare(
        self,
        name: str,
        one: Mapping[int, Mapping[str, str]],
        other: Mapping[int, Mapping[str, str]],
        explanation: str,
    ) -> bool:
        """Add a check of equal states; return whether they are equal."""
        for step, expected in one.items():
            paths = find_differences(expected, other.get(step, {}))
            if paths:
                text = f"{name_differences(paths)} after step {step} {explanation}"
                self._checks.append(Check(name, "differs", text))
                return False
        steps = self._trace.steps
        number = "each of" if len(one) == steps else f"{len(one)} of"
        self._checks.append(Check(name, "ok", f"equal after {number} {steps} steps"))
        return True

    def _changes_nothing(self, name: str, trace: Trace) -> bool:
        """Return whether another value of a hyper-parameter leads to the same states and metrics.

        A part of the state under the hyper-parameter's own name does not count as a difference.
        """
        looked_at = [step for step in trace.states if step <= _VARIANT_STEPS]
        like = Trace(steps=max(looked_at), states={step: {} for step in looked_at})
        ways = Ways(replace(self._plan, sequence=self._plan.variants[name]))
        try:
            other = ways.straight(like, saves=True, evaluates=True)
        except (Exception, SystemExit):  # a trainer that rejects a value has read it
            return False
        told = re.compile(rf"(^|\.){re.escape(name)}($|\[|\.)")
        return all(trace.metrics[step] == other.metrics[step] for step in looked_at) and not any(
            told.search(path) is None
            for step in looked_at
            for path in find_differences(trace.states[step], other.states[step])
        )

    def _tell_steps(self) -> str:
        ended = ", with the end of an epoch" if self._trace.met_epoch else ""
        return f"{self._trace.steps} steps{ended}"

    def _find_unmet(self) -> list[str]:
        """List what may matter but lies beyond the trained steps."""
        trace = self._trace
        if not trace.steps:
            return []
        late = [step for step in self._plan.sequence.changes() if step >= trace.steps]
        found = [f"a change of the hyper-parameters at step {late[0]}"] if late else []
        if trace.met_epoch is False:
            found.append("the end of an epoch")
        return found


_States = dict[int, dict[str, str]]  # leaf digests, by step


def _run_elsewhere(
    plan: Plan, trace: Trace, kept: Iterable[Kept] = ()
) -> tuple[_States, _States] | str:
    """Train in another process. Returns the states of uninterrupted training and of training
    from the checkpoints, or an error in one line.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(plan.write(trace, kept)))
        command = [sys.executable, "-m", "stage_runner", "verify", "--digests"]
        command += ["--study-json", str(file), "--path", str(plan.path)]
        environment = {**os.environ, "PYTHONHASHSEED": "random"}
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    try:
        result = json.loads(done.stdout)
        if "failed" in result:
            return str(result["failed"])
        straight, resumed = (
            {int(step): state for step, state in result[way].items()}
            for way in ("states", "resumed")
        )
        return straight, resumed
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the other process {_tell_end(done.returncode)}"


def _tell_end(status: int) -> str:
    """Describe the end of a process that returned no result."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
