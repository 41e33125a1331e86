"""The Trial object of a cluster: one trial of a study, as its tuner or a user asks for it.

Its spec is what is wanted, and holds every decision that was made about the trial, each written
before it was acted on. Sequences never change; ``steps`` only grows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from hippo.model.bounds import MAX_STEPS
from hippo.model.fields import (
    Index,
    Integer,
    JsonObject,
    SpecModel,
    StepCount,
    Text,
    Whole,
    validate,
)
from hippo.model.measuring import check_size
from hippo.model.study import Metadata, StudyName


class TrialDecision(SpecModel):
    """One decision about a trial, numbered within its study."""

    index: Index
    """Number of the decision within the study: 0, 1, 2, ..."""
    kind: Literal["suggest", "promote", "stop", "fail", "reopen"]
    """What was decided."""
    steps: Annotated[int, Whole(0, MAX_STEPS)]
    """The step that the trial is to reach; for stop, where it stays."""
    marks: list[StepCount] = Field(default_factory=list)
    """Earlier steps at which it reports on the way."""
    request: Index | None = None
    """Of an external study: the number of the request that it answers."""
    reason: Text
    """Why."""


class TrialSpec(SpecModel):
    """A hyper-parameter sequence of a study, and the step that it is to reach."""

    study: StudyName
    """Name of the study, in the same namespace."""
    hyperparameters: JsonObject
    """A value or a schedule for each hyper-parameter of the study's space."""
    steps: StepCount
    """Train up to this step, and report the metrics there. May only grow."""
    stop: bool = False
    """The trial is not to go on, wherever it is. Never false again, unless its study goes on after
    an end that had stopped it."""
    index: Index | None = None
    """Number of the trial within the study; written by the operator."""
    parent: Index | None = None
    """Index of the trial whose beginning it took over, or of which it is a replicate."""
    seed: Integer | None = None
    """Of a replicate: the seed that it is trained under."""
    decisions: list[TrialDecision] = Field(default_factory=list)
    """All that was decided about the trial, in order; written by the operator."""


class Trial(SpecModel):
    """A trial, made by the operator or, for studies of the algorithm external, by a user."""

    api_version: Literal["hippo.dev/v1alpha1"]
    kind: Literal["Trial"]
    metadata: Metadata
    spec: TrialSpec


def parse_trial_spec(document: Any) -> TrialSpec:
    """The spec of a Trial object. Raises InvalidSpec with every problem and its path."""
    check_size(document)
    return validate(TrialSpec, document, "spec")
