"""Comparisons over the same trials: decisions that depend on how a study is trained, and the
decisions of another run that are repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hippo.model import InvalidSpec, Study, parse_study
from hippo.protocol.decisions import Decision
from hippo.store import Blobs, PlanStore, StoredStudy, find_studies
from hippo.tune import Tuner, create_tuner

_DECIDING = ("algorithm", "max_trials", "space", "steps")
"""Fields of a spec that determine, with the objective, which trials exist."""


def other_trials(study: Study, tuner: Tuner) -> str | None:
    """Return why a study's trials may differ between merged and separate training; None if they
    do not.
    """
    if tuner.by_order is not None:
        return (
            f"{tuner.by_order} depends on the order of results, so they may differ from those of a"
            " merged run; with --like STORE the decisions of one are repeated"
        )
    budget = study.spec.budget
    if budget.worker_hours is not None or budget.wall_time is not None:
        return "trial by trial its budget is spent sooner, so fewer trials may be trained"
    return None


def find_followed(
    blobs: Blobs, source: str, studies: Iterable[Study], option: str
) -> dict[str, tuple[Decision, ...]]:
    """Return, by study, the decisions of an ended merged run, for studies whose decisions depend on
    the run.

    ``source`` and ``option``: the store, and how it was named, for messages. Raises InvalidSpec if
    the store does not hold such a run; StoreError.
    """
    return {
        study.name: read_decisions(blobs, source, study, option)
        for study in studies
        if create_tuner(study).by_order is not None
    }


def read_decisions(blobs: Blobs, source: str, study: Study, option: str) -> tuple[Decision, ...]:
    """Return the decisions of a study's merged run. Raises InvalidSpec, StoreError."""
    runs = [run for run in find_studies(blobs, study.name, study.namespace) if not run.is_deleted]
    merged = [run for run in runs if _is_merged(blobs, run)]
    if not merged:
        raise InvalidSpec.at(option, f"{source} holds no run of {study.name}: run it there first")
    run = merged[0]
    differing = _differing(study, parse_study(run.document["study"]))
    if differing:
        names = " and ".join(f"spec.{name}" for name in differing)
        verb = "differs" if len(differing) == 1 else "differ"
        raise InvalidSpec.at(option, f"in {source} the {names} of {study.name} {verb}")
    if not run.document.get("status", {}).get("state"):
        raise InvalidSpec.at(option, f"in {source} {study.name} has not ended: let it end first")
    return tuple(PlanStore(blobs, run.plan).read_decisions(study.name))


def _is_merged(blobs: Blobs, run: StoredStudy) -> bool:
    return (PlanStore(blobs, run.plan).read_signature() or {}).get("merge") is not False


def _differing(one: Study, other: Study) -> list[str]:
    """Return the differing fields, among those that determine the trials, by their names in a
    document.
    """
    mine, theirs = (_deciding(study) for study in (one, other))
    return [name for name in sorted(mine) if mine[name] != theirs[name]]


def _deciding(study: Study) -> dict[str, Any]:
    fields: dict[str, Any] = {
        type(study.spec).model_fields[name].alias or name: getattr(study.spec, name)
        for name in _DECIDING
    }
    objective = study.spec.objective
    return {**fields, "objective": (objective.metric, objective.goal)}


def has_other_trials(decisions: Iterable[Decision], followed: Iterable[Decision]) -> bool:
    """Return whether a study's suggestions are not the beginning of those that it should repeat."""
    mine, theirs = (
        [d.hyperparameters for d in some if d.kind == "suggest" and d.seed is None]
        for some in (decisions, followed)
    )
    return mine != theirs[: len(mine)]
