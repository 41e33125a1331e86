"""Decides whether a study that has ended resumes: an end is a verdict under limits.

It resumes if its limits were raised, or if failed trials are to be retried. Earlier decisions stay.
Trials that the end had stopped, and those to be retried, are reopened by decisions of their own, so
that the store has the whole history and a restart replays it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from hippo.lifecycles import End, EndReason
from hippo.model import External, Hyperband, Pbt, Study
from hippo.model.words import counted
from hippo.protocol.decisions import Decision, format_of
from hippo.tune import create_tuner
from hippo.tune.reasons import STUDY_ENDED, STUDY_OVER

_LACKING = re.compile(
    r"metric (.+) is not among those that evaluate\(\) returned"
    r"|evaluate\(\) returned no (.+) at step \d+ \(it returned: "  # an older Hippo's wording
)

RAISED = "the study goes on"
RETRIED = "tried again"


@dataclass(frozen=True, slots=True)
class Advice:
    """How a user can let a study resume under a given driver; phrases that end sentences."""

    again: str = "run again"
    retry: str = "run again with --retry-failed"
    metric: str = "mend spec.objective.metric and run again"
    elsewhere: str = "give it another name"

    def mend(self, failure: str) -> str:
        """Returns the advice after a failure that made a study fail."""
        return self.metric if is_lacking(failure) else f"mend it and {self.retry}"


LOCAL = Advice()


@dataclass(frozen=True, slots=True)
class Spending:
    """A study's spending so far, in seconds."""

    worker: float = 0.0
    wall: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a study resumes, why (or what would let it resume), and with which decisions."""

    goes_on: bool
    why: str
    decisions: tuple[Decision, ...] = ()


def find_void(decisions: Sequence[Decision]) -> frozenset[int]:
    """Returns the indices of stops and failures whose trials were reopened later."""
    void: set[int] = set()
    standing: dict[int, list[int]] = {}
    for decision in decisions:
        if decision.kind in ("stop", "fail"):
            standing.setdefault(decision.trial, []).append(decision.index)
        elif decision.kind == "reopen":
            void.update(standing.pop(decision.trial, ()))
    return frozenset(void)


def is_same_failure(before: Decision | None, decision: Decision) -> bool:
    """Whether a failure repeats the previous one: trials behind the same stage fail together."""
    return (
        before is not None
        and before.index + 1 == decision.index
        and before.reason == decision.reason
        and not is_lacking(decision.reason)
    )


def tell_reason(message: str) -> EndReason | None:
    """Infers why a study ended from an older Hippo's message; None if it is unclear."""
    if message.startswith("its budget of "):
        return EndReason.BUDGET
    if ", more than maxFailedTrials" in message:
        return EndReason.FAILED_TRIALS
    if " reached the target: " in message:
        return EndReason.TARGET
    if message.startswith("no trial succeeded"):
        return EndReason.NO_RESULT
    return {"all trials have ended": EndReason.COMPLETED, "removed": EndReason.REMOVED}.get(message)


@dataclass(slots=True)
class _History:
    """The state of trials after their decisions, without those that were voided."""

    count: int = 0
    targets: list[int] = field(default_factory=list)
    replicates: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)  # reason by trial
    cut_short: set[int] = field(default_factory=set)  # stopped by the study's end
    reopened: set[int] = field(default_factory=set)  # at least once

    @classmethod
    def read(cls, decisions: Sequence[Decision]) -> _History:
        history, void = cls(len(decisions)), find_void(decisions)
        for decision in decisions:
            trial = decision.trial
            if decision.kind == "suggest":
                history.targets.append(decision.steps)
                if decision.seed is not None:
                    history.replicates.add(trial)
            elif decision.kind == "promote":
                history.targets[trial] = decision.steps
            elif decision.kind == "reopen":
                history.reopened.add(trial)
            elif decision.index in void:
                continue
            elif decision.kind == "fail":
                history.failed[trial] = decision.reason
            elif decision.reason.startswith((STUDY_ENDED, STUDY_OVER)):
                history.cut_short.add(trial)
        return history


def count_failing(decisions: Sequence[Decision], without: Collection[int] = ()) -> int:
    """Returns the number of distinct failed stages according to decisions, without replicates."""
    history, void = _History.read(decisions), find_void(decisions)
    count, last = 0, None
    for decision in decisions:
        if decision.kind != "fail" or decision.index in void:
            continue
        if decision.trial in without or decision.trial in history.replicates:
            continue
        count += not is_same_failure(last, decision)
        last = decision
    return count


def reconsider(
    study: Study,
    decisions: Sequence[Decision],
    end: End | None,
    *,
    before: Study,
    spent: Spending,
    retry: bool = False,
    advice: Advice,
) -> Verdict:
    """Decides whether a study resumes under its present limits.

    ``end`` is None if it has not ended: then only failed trials may be reopened. ``before`` is the
    study as it ended. Trials that failed because they lacked a metric are also retried once the
    objective names another. Raises InvalidSpec if a package of its tuner is missing.
    """
    history = _History.read(decisions)
    again = _tried_again(study, history, retry=retry)
    if end is not None:
        is_asked = bool(again) or _limits(study) != _limits(before)
        may_draw = _may_draw(study, history, decisions, before.spec.max_trials)
        obstacle = (
            _find_obstacle(study, history, end, again, may_draw, advice)
            or _find_limit(study, decisions, again, spent, advice)
            or (None if is_asked else _name_limit(end, advice))
        )
        if obstacle is not None:
            return Verdict(False, obstacle)
    cut_short = history.cut_short if end is not None else set[int]()
    if history.replicates:  # the tuner has finished
        cut_short = cut_short & history.replicates
    reopened = {**dict.fromkeys(cut_short, RAISED), **dict.fromkeys(again, RETRIED)}
    made = tuple(
        Decision(
            format_version=format_of("reopen"),
            index=history.count + offset,
            kind="reopen",
            trial=trial,
            steps=history.targets[trial],
            reason=_explain(why, history.failed.get(trial)),
        )
        for offset, (trial, why) in enumerate(sorted(reopened.items()))
    )
    return Verdict(end is not None or bool(made), _tell(len(cut_short), len(again)), made)


def _limits(study: Study) -> tuple[object, ...]:
    spec, budget = study.spec, study.spec.budget
    limits = spec.max_trials, spec.max_failed_trials
    return (*limits, budget.worker_hours, budget.wall_seconds)


def _name_limit(end: End, advice: Advice) -> str:
    """Returns the message for an end whose limit was not raised, although it might now come later.

    Costs are estimates, and an older Hippo recorded less.
    """
    if "raise spec." in end.message or advice.metric in end.message:
        return end.message
    limit = "spec.budget" if end.reason is EndReason.BUDGET else "spec.maxFailedTrials"
    return f"{end.message}; raise {limit} and {advice.again} to go on"


def _explain(why: str, failure: str | None) -> str:
    return f"{why}; it had failed: {failure}" if failure is not None else why


def _tell(cut_short: int, again: int) -> str:
    told = []
    if cut_short:
        told.append(f"{counted(cut_short, 'trial')} that its end had stopped")
    if again:
        told.append(f"{counted(again, 'trial')} that had failed")
    return f"it goes on, with {' and '.join(told)}" if told else "it goes on"


def _tried_again(study: Study, history: _History, *, retry: bool) -> set[int]:
    """Returns the failed trials to retry, whose results would still count.

    Includes trials that were already reopened and then stopped by the same end, because the process
    that reopened them was killed half-way.
    """
    metric = study.spec.objective.metric
    failed = {
        trial
        for trial, reason in history.failed.items()
        if retry or (is_lacking(reason) and not is_lacking(reason, metric))
    }
    if retry:
        failed |= history.cut_short & history.reopened
    if history.replicates:
        failed &= history.replicates
    elif isinstance(study.spec.algorithm, Pbt):  # others have replaced the rest
        farthest = max(history.targets, default=0)
        failed = {trial for trial in failed if history.targets[trial] == farthest}
    return failed


def lacking(metric: str, returned: Collection[str]) -> str:
    """Returns the stored failure reason of a trial whose metrics lack the study's metric."""
    has = ", ".join(sorted(returned)) or "it returned nothing"
    return f"metric {metric!r} is not among those that evaluate() returned ({has})"


def is_lacking(reason: str, metric: str | None = None) -> bool:
    """Whether a trial failed because its metrics lack the study's, or ``metric`` if given."""
    found = _LACKING.match(reason)
    return found is not None and (metric is None or repr(metric) in found.groups())


def _may_draw(
    study: Study, history: _History, decisions: Sequence[Decision], before: int | None
) -> str | None:
    """Returns why no trial would be drawn under the study's maxTrials; None if one would."""
    most, algorithm = study.spec.max_trials, study.spec.algorithm
    if isinstance(algorithm, Pbt):
        return "pbt draws its population and no more"
    if history.replicates:
        return "its best trials were trained again under other seeds, which ends the search"
    if not isinstance(algorithm, External):
        tuner = create_tuner(study)
        for decision in decisions:
            if decision.kind in ("stop", "fail", "reopen"):
                tuner.skip(decision)
            else:
                tuner.apply(decision)
        if not tuner.exhausted:
            return None
        size = study.search_space().size
        if size is not None and len(history.targets) >= size:
            return f"all {size} points of its space were drawn"
    if isinstance(algorithm, Hyperband) and most is None:
        return "hyperband without maxTrials makes one pass over its brackets"
    if isinstance(algorithm, External) and most != before:
        return None
    return ""


def _find_obstacle(
    study: Study, history: _History, end: End, again: set[int], may_draw: str | None, advice: Advice
) -> str | None:
    """Returns why the study stays ended regardless of its budget, or None."""
    message = end.message
    to_go_on = f"to train on, {advice.elsewhere}"
    match end.reason:
        case EndReason.COMPLETED | EndReason.NO_RESULT:
            if again or may_draw is None:
                return None
            ways = []
            if not may_draw and study.spec.max_trials is not None:
                most = study.spec.max_trials
                ways.append(f"raise spec.maxTrials above {most} and {advice.again}")
            if failed := len(_tried_again(study, history, retry=True)):
                ways.append(f"to try {counted(failed, 'trial')} again that failed, {advice.retry}")
            elif history.failed:
                message = f"{message}; the failed trials no longer matter"
            if may_draw:
                message = f"{message}; {may_draw}"
            return f"{message}; {'; '.join(ways) or to_go_on}"
        case EndReason.BUDGET | EndReason.FAILED_TRIALS:
            return None
        case _:
            return f"{message}; {to_go_on}"


def _find_limit(
    study: Study, decisions: Sequence[Decision], again: set[int], spent: Spending, advice: Advice
) -> str | None:
    """Returns which limit would end the study again at once, and the remedy, or None."""
    spec, budget = study.spec, study.spec.budget
    if budget.worker_hours is not None and spent.worker >= budget.worker_hours * 3600:
        return over_worker_hours(budget.worker_hours, spent.worker / 3600, advice)
    if budget.wall_seconds is not None and spent.wall >= budget.wall_seconds:
        return over_wall_time(str(budget.wall_time), spent.wall, advice)
    failing = count_failing(decisions, without=again)
    if failing > spec.max_failed_trials:
        reasons = [d.reason for d in decisions if d.kind == "fail"]
        return over_failed_trials(failing, spec.max_failed_trials, reasons[-1], advice)
    return None


def over_worker_hours(limit: float, spent: float, advice: Advice) -> str:
    least = max(limit, spent)
    return (
        f"its budget of {limit:g} worker-hours is spent; raise spec.budget.workerHours above"
        f" {least:.4g} and {advice.again} to go on"
    )


def over_wall_time(limit: str, spent: float, advice: Advice) -> str:
    return (
        f"its budget of {limit} of wall time is spent; raise spec.budget.wallTime above"
        f" {max(0.0, spent):.0f}s and {advice.again} to go on"
    )


def over_failed_trials(failing: int, limit: int, last: str, advice: Advice) -> str:
    told = (
        f"{counted(failing, 'stage')} failed, more than maxFailedTrials ({limit}); the last one:"
        f" {last}; {advice.mend(last)}"
    )
    if is_lacking(last):  # all others would lack it as well
        return told
    return f"{told}, or raise spec.maxFailedTrials above {failing - 1} and {advice.again}"
