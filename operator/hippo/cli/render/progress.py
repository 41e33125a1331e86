"""Progress of a run on standard error: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hippo.cli.render.numbers import describe_briefly, number
from hippo.cli.render.output import is_live
from hippo.cli.render.rows import Column, Listing
from hippo.engine import Engine
from hippo.engine.state import StudyRun
from hippo.lifecycles import TrialState
from hippo.local import Session
from hippo.model import Value
from hippo.model.words import counted
from hippo.session.stalls import Stall
from hippo.views.summary import (
    Remaining,
    Summary,
    best_value,
    estimate_remaining,
    estimate_steps_trained,
    running_stages,
    summarise,
)

REDRAW_SECONDS = 0.5
LINE_SECONDS = 10.0
DRAWING_SHARE = 0.05
"""Maximum share of the driver's time for drawing, which is slow with thousands of trials."""

MAX_STAGES_SHOWN = 12
MAX_STALLS_SHOWN = 3
QUIET_SECONDS = 60.0
"""Seconds for which a failure that differs only in its log is not reported again."""

_LOG = re.compile(r"; its log: [^;]*")


class Progress:
    """Implements the driver's Observer. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_live = is_live(console)
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # it would interpret escapes in the output
            redirect_stderr=False,
        )
        self._begun = time.monotonic()
        self._draw_at = 0.0
        self._is_mute = False
        self._saved = 0
        self._failures: dict[str, float] = {}  # reported failures, and when
        self._stalls: Sequence[Stall] = ()
        self._told: dict[str, Stall] = {}  # last report, by chain
        self.worker_seconds_earlier = 0.0
        """Worker-seconds that the studies had used when the run began."""

    def __enter__(self) -> Self:
        if self._is_live:
            with self._unfailing():
                self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_live:
            with self._unfailing():
                self._live.stop()

    @contextlib.contextmanager
    def _unfailing(self) -> Iterator[None]:
        """Ignore a closed terminal or a full disk, which must not end the run."""
        try:
            yield
        except OSError:
            self._is_mute = True
            with contextlib.suppress(OSError):  # buffered output must not fail at exit
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._console.file.fileno())
                os.close(nowhere)

    def started(self, engine: Engine, session: Session) -> None:
        summary = summarise(engine)
        self.worker_seconds_earlier = summary.worker_seconds
        trials = sum(summary.trials.values())
        known = summary.steps_reached
        text = f"{counted(trials, 'trial')} so far" if trials else "no trials yet"
        text += f", {counted(summary.steps_requested, 'step')} requested"
        text += f", {summary.steps_unique} once merged"
        if known:
            text += f"; {counted(known, 'step')} already trained"
        self._print(text)

    def notified(self, message: str, study: str | None) -> None:
        text = f"{study}: {message}" if study else message
        alike, logs = _LOG.subn("", text)
        if logs:  # of chains that fail alike at about the same time, one is enough
            now = time.monotonic()
            if now - self._failures.get(alike, -QUIET_SECONDS) < QUIET_SECONDS:
                return
            self._failures[alike] = now
        self._print(text)

    def stalled(self, stalls: Sequence[Stall]) -> None:
        """Report each stall at once, and again whenever its duration has doubled."""
        for stall in stalls:
            told = self._told.get(stall.chain)
            is_same = told is not None and (told.during, told.step) == (stall.during, stall.step)
            if told is None or not is_same or stall.seconds >= 2 * told.seconds:
                self._told[stall.chain] = stall
                self.notified(str(stall), stall.study)
        standing = {stall.chain for stall in stalls}
        for chain in [chain for chain in self._told if chain not in standing]:
            del self._told[chain]
        self._stalls = stalls

    def updated(self, engine: Engine) -> None:
        now = time.monotonic()
        if self._is_mute or now < self._draw_at:
            return
        summary = summarise(engine)
        # Never less than before: what is being trained now brings results only at its end.
        self._saved = max(self._saved, summary.steps_reached - summary.steps_trained)
        if self._is_live:
            with self._unfailing():
                self._live.update(self._render(engine, summary), refresh=True)
        else:
            self._print(self._line(engine, summary))
        spent = time.monotonic() - now
        pause = REDRAW_SECONDS if self._is_live else LINE_SECONDS
        self._draw_at = now + max(pause, spent / DRAWING_SHARE)

    def _print(self, text: str) -> None:
        line = f"{_clock(time.monotonic() - self._begun)}  {text}"
        with self._unfailing():
            self._console.print(Text(line), soft_wrap=True)

    def _line(self, engine: Engine, summary: Summary) -> str:
        remaining = estimate_remaining(engine)
        parts = [
            f"{counted(len(engine.chains), 'stage')} running",
            f"{counted(estimate_steps_trained(engine, summary), 'step')} trained",
            f"{remaining.steps} left",
            f"{counted(self._saved, 'step')} saved so far",
            *_ended(engine),
            *(str(stall) for stall in self._stalls[:1]),
        ]
        parts += _bests(engine)
        if remaining.seconds is not None:
            parts.append(f"about {_time_left(remaining)}")
        return "; ".join(parts)

    def _render(self, engine: Engine, summary: Summary) -> Group:
        trained = estimate_steps_trained(engine, summary)
        remaining = estimate_remaining(engine)
        total = max(1, trained + remaining.steps)
        ended = sum(count for state, count in summary.trials.items() if state.is_final)
        failed = summary.trials[TrialState.FAILED]
        parts = (
            f"{trained}/{total} steps",
            f"{ended}/{counted(sum(summary.trials.values()), 'trial')} ended",
            f"{failed} failed" if failed else "",
            f"saved {counted(self._saved, 'step')}",
            _time_left(remaining) if remaining.seconds is not None else "",
        )
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=total, completed=trained, width=min(30, self._console.width // 3))
        head.add_row(bar, Text("  ".join(part for part in parts if part)))
        names = ("stage", "study", "step", "of", "hyper-parameters")
        stages = Listing([Column(name, is_folded=name == names[-1]) for name in names])
        stands = {stall.chain: stall.step for stall in self._stalls}
        for chain, estimated, stop in running_stages(engine)[:MAX_STAGES_SHOWN]:
            at = stands.get(chain.name, estimated)
            values = chain.claim.node.sequence.values(min(at, stop - 1) if stop else 0)
            stages.add(chain.name, chain.study, str(at), str(stop), _values(values))
        lines: list[Table | Listing | Text] = [head, stages]
        if len(engine.studies) > 1:
            lines += [Text(text) for text in _ended(engine)]
        lines += [Text(text, style="green") for text in _bests(engine)]
        lines += [Text(str(stall), style="red") for stall in self._stalls[:MAX_STALLS_SHOWN]]
        if not engine.chains:
            lines.append(Text("waiting", style="dim"))
        return Group(*lines)


def _ended(engine: Engine) -> list[str]:
    """Describe how far each study is, by the trials that are known so far."""
    several = len(engine.studies) > 1
    return [
        (f"{run.name}: " if several else "")
        + f"{sum(trial.state.is_final for trial in run.trials)} of"
        f" {counted(len(run.trials), 'trial')} ended"
        for run in engine.studies.values()
    ]


def _bests(engine: Engine) -> list[str]:
    found = []
    for run in engine.studies.values():
        best = best_value(run)
        if best is not None:
            trial, step, value = best
            metric = run.study.spec.objective.metric
            shown = number(value, _values_of(run))
            found.append(f"best {trial.name}: {metric} {shown} at step {step}")
    return found


def _values_of(run: StudyRun) -> list[float | None]:
    """Return the objective of all trials; the best is shown with digits that distinguish it."""
    found = (trial.latest for trial in run.trials)
    return [run.objective(latest[1]) for latest in found if latest is not None]


def _time_left(remaining: Remaining) -> str:
    assert remaining.seconds is not None
    so_far = " for the trials so far" if remaining.may_grow else ""
    return f"{_clock(remaining.seconds)} left{so_far}"


def _values(values: dict[str, Value]) -> str:
    return "  ".join(
        f"{name}={describe_briefly(value, 4)}" for name, value in sorted(values.items())
    )


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60:02}:{rest % 60:02}"
