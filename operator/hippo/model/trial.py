"""The Trial object of a cluster: one trial of a study, requested by its tuner or by a user.

Its spec is the desired state. It also holds every decision made about the trial, each written
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
    """Kind of the decision."""
    steps: Annotated[int, Whole(0, MAX_STEPS)]
    """Step that the trial is to reach; for stop, the step at which it stays."""
    marks: list[StepCount] = Field(default_factory=list)
    """Earlier steps at which the trial reports metrics."""
    request: Index | None = None
    """For an external study: number of the request that this decision answers."""
    reason: Text
    """Reason for the decision."""


class TrialSpec(SpecModel):
    """A hyper-parameter sequence of a study, and the step that it is to reach."""

    study: StudyName
    """Name of the study, in the same namespace."""
    hyperparameters: JsonObject
    """A value or a schedule for each hyper-parameter of the study's space."""
    steps: StepCount
    """Train up to this step and report the metrics there. May only grow."""
    stop: bool = False
    """Stop the trial wherever it is. Stays true, unless the study is reopened after an end that
    stopped the trial."""
    index: Index | None = None
    """Number of the trial within the study; written by the operator."""
    parent: Index | None = None
    """Index of the trial that this one was forked from or replicates."""
    seed: Integer | None = None
    """For a replicate: the seed under which it is trained."""
    decisions: list[TrialDecision] = Field(default_factory=list)
    """All decisions about the trial, in order; written by the operator."""


class Trial(SpecModel):
    """A trial, created by the operator or, for studies with the algorithm external, by a user."""

    api_version: Literal["hippo.dev/v1alpha1"]
    kind: Literal["Trial"]
    metadata: Metadata
    spec: TrialSpec


def parse_trial_spec(document: Any) -> TrialSpec:
    """Parses the spec of a Trial object. Raises InvalidSpec with every problem and its path."""
    check_size(document)
    return validate(TrialSpec, document, "spec")
