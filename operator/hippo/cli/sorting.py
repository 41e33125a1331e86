"""The order of ``hippo results --sort``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hippo.cli.render.numbers import describe_value
from hippo.engine.state import StudyRun, TrialRun
from hippo.model import InvalidSpec
from hippo.model.words import did_you_mean

KEYS = ("trial", "best", "steps", "phase")

Row = dict[str, Any]
_Key = tuple[Any, ...] | None
"""A sort key, ascending; None: unknown, which sorts last in either direction."""


def sort_trials(rows: list[Row], run: StudyRun, key: str, *, reverse: bool) -> list[Row]:
    """The rows of a study's trials, which come in the order of their numbers.

    ``key``: one of KEYS, else a metric or a hyper-parameter, ascending. Raises InvalidSpec.
    """
    find = _find_key(rows, run, key)
    keyed = [(find(row), row) for row in rows]
    known = [(found, row) for found, row in keyed if found is not None]
    known.sort(key=lambda item: item[0], reverse=reverse)
    return [row for _, row in known] + [row for found, row in keyed if found is None]


def _find_key(rows: list[Row], run: StudyRun, key: str) -> Callable[[Row], _Key]:
    trials = {trial.name: trial for trial in run.trials}
    if key == "trial":
        return lambda row: (trials[row["trial"]].index,)
    if key == "best":
        return lambda row: _standing(run, trials[row["trial"]])
    if key == "steps":
        return lambda row: (-row["steps"], trials[row["trial"]].index)
    if key == "phase":
        return lambda row: (row["phase"], trials[row["trial"]].index)
    metrics = {name for row in rows for name in row["metrics"]}
    if key in metrics:
        return lambda row: _number(row["metrics"].get(key))
    names = {name for row in rows for name in row["hyperparameters"]}
    if key in names:
        return lambda row: _value(row["hyperparameters"].get(key))
    known = [*KEYS, *sorted(metrics), *sorted(names)]
    raise InvalidSpec.at(
        "--sort", f"unknown key {key!r}; known: {', '.join(known)}{did_you_mean(key, known)}"
    )


def _standing(run: StudyRun, trial: TrialRun) -> _Key:
    """Sort the winner first, then by rank; replicates last, since no tuner compares them."""
    if trial.latest is None:
        return None
    return trial is not run.best, trial.is_replicate, run.standing(trial)


def _number(value: float | None) -> _Key:
    return None if value is None else (value,)


def _value(value: Any) -> _Key:
    """Sort numbers first, then the rest by their text."""
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, value, "") if is_number else (1, 0, describe_value(value))
