"""The retention policy: which stored checkpoints a study wants kept, and until when.

A study's intent is in its stored document from its acceptance on, so it holds for every reader,
whether or not the study is running. A study that has not ended may need any checkpoint of its plan.
One that has ended keeps what ``checkpoints.retain`` says, until ``checkpoints.ttl`` after its
deletion. If it ended before its trials did, or some have failed, it also keeps the checkpoints on
their paths, so that it can resume, until ``checkpoints.ttl`` after its end. Everything else may be
removed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hippo.model import Checkpoints, InvalidSpec
from hippo.model.fields import validate
from hippo.protocol.fields import LATEST


class Scope(StrEnum):
    """The part of its plan that a study wants kept."""

    PLAN = "plan"  # everything: it may still run
    PATHS = "paths"  # checkpoints on the paths of its trials
    BEST = "best"  # the checkpoint of its best trial
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Intent:
    """The retention intent of one study."""

    study: str
    scope: Scope
    best: str | None = None  # content key of its best trial's checkpoint
    until: float | None = None  # Unix time; None: while it is not deleted
    may_go_on_until: float = -math.inf  # Unix time until which it keeps its paths

    def is_over(self, now: float) -> bool:
        """Whether nothing of the study is wanted any more, including its records."""
        return self.until is not None and now >= self.until

    def holds(self, key: str, owners: Collection[str], now: float) -> bool:
        """Whether it wants a checkpoint; ``owners`` are the studies with it on their path."""
        if now < self.may_go_on_until and self.study in owners:
            return True
        match self.scope:
            case Scope.PLAN:
                return True
            case Scope.PATHS:
                return self.study in owners or key == self.best
            case Scope.BEST:
                return key == self.best
            case Scope.NOTHING:
                return False

    def forbids_eviction(self, key: str) -> bool:
        """Whether a budget must not evict it: the study has not ended, or it is its best."""
        if self.scope is Scope.PLAN:
            return True
        return self.until is None and self.scope is not Scope.NOTHING and key == self.best


def read_intent(document: Mapping[str, Any]) -> Intent:
    """Reads the intent of a study from its stored document. In doubt, everything is kept."""
    study = document["study"]
    name = str(study["metadata"]["name"])
    status = document.get("status") or {}
    deleted = document.get("deleted")
    try:
        checkpoints = validate(Checkpoints, study["spec"].get("checkpoints", {}))
    except InvalidSpec:  # a newer Hippo's
        return Intent(name, Scope.PLAN)
    if deleted is None and not status.get("state"):
        return Intent(name, Scope.PLAN, status.get("bestKey"))
    end = status.get("end") or {}
    may_go_on = deleted is None and bool(end.get("isOpen")) and checkpoints.retain != "none"
    scopes = {"all": Scope.PATHS, "best": Scope.BEST, "none": Scope.NOTHING}
    return Intent(
        study=name,
        scope=scopes[checkpoints.retain],
        best=status.get("bestKey"),
        until=None if deleted is None else min(deleted + checkpoints.ttl_seconds, LATEST),
        may_go_on_until=min(end["at"] + checkpoints.ttl_seconds, LATEST)
        if may_go_on
        else -math.inf,
    )
