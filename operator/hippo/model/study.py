"""The study: what to train, over which space, how far, and what may be spent on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationInfo,
    model_validator,
)

from hippo.model.algorithms import AlgorithmSettings, read_algorithm
from hippo.model.domain_reader import read_space
from hippo.model.errors import InvalidSpec
from hippo.model.fields import (
    Count,
    Duration,
    Integer,
    JsonObject,
    Natural,
    Number,
    PositiveDuration,
    PositiveNumber,
    SpecModel,
    Text,
    seconds,
    validate,
)
from hippo.model.numbers import describe, plain
from hippo.model.sequence import MAX_STEPS
from hippo.model.space import NOT_ENUMERABLE, Space

API_VERSION = "hippo.dev/v1alpha1"
MAX_NAME = 52
"""Characters of a study's name: names of its trials and pods, derived from it, hold at most 63."""

DEFAULT_NAMESPACE = "default"
MAX_NAMESPACE = 63

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ENTRYPOINT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_name(value: str) -> str:
    """The name of a study itself. Raises InvalidSpec."""
    if len(value) > MAX_NAME:
        raise InvalidSpec.at("", f"must have at most {MAX_NAME} characters, not {len(value)}")
    if _LABEL.fullmatch(value) is None:
        raise InvalidSpec.at(
            "",
            f"must consist of lower-case letters, digits and '-', and begin and end with a letter "
            f"or digit, unlike {describe(value)}",
        )
    return value


def check_namespace(value: str) -> str:
    """The namespace itself. Raises InvalidSpec."""
    if len(value) > MAX_NAMESPACE or _LABEL.fullmatch(value) is None:
        raise InvalidSpec.at(
            "",
            f"must have at most {MAX_NAMESPACE} lower-case letters, digits and '-', and begin and "
            f"end with a letter or digit, unlike {describe(value)}",
        )
    return value


def _entrypoint(value: str) -> str:
    if _ENTRYPOINT.fullmatch(value) is None:
        raise InvalidSpec.at("", f'must be "module:Class", not {describe(value)}')
    return value


def _steps(value: int) -> int:
    if value > MAX_STEPS:
        raise InvalidSpec.at("", f"must be at most {MAX_STEPS}")
    return value


def _space(value: Any, info: ValidationInfo) -> dict[str, Any]:
    # Without a sound number of steps, all but the pieces can still be checked.
    read_space(value, info.data.get("steps"), "")
    copied = plain(value)
    assert isinstance(copied, dict)
    return copied


class Metadata(SpecModel):
    name: Annotated[str, AfterValidator(check_name)]
    namespace: Annotated[str, AfterValidator(check_namespace)] | None = None
    """Studies of two namespaces never share anything; None: ``default``."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Objective(SpecModel):
    metric: Text
    goal: Literal["maximize", "minimize"]
    target: Number | None = None
    """Once a trial reaches it, the study is done."""
    test_metric: Text | None = None
    """Another of the trainer's metrics, shown for the winner only, and once all is decided."""


class Budget(SpecModel):
    """When any part is spent, the study ends with what it has."""

    worker_hours: PositiveNumber | None = None
    wall_time: PositiveDuration | None = None

    @property
    def wall_seconds(self) -> float | None:
        return None if self.wall_time is None else seconds(self.wall_time)


class TrainerSpec(SpecModel):
    """What trains; everything that results depend on is part of the signature."""

    entrypoint: Annotated[str, AfterValidator(_entrypoint)]
    """``module:Class``, importable in the image or below the study's folder."""
    config: JsonObject = Field(default_factory=dict)
    seed: Integer = 0
    threads: Count = 1
    """CPU threads. Results depend on it."""
    version: str = ""
    """Free text: a version of the data, or a reason to start afresh."""
    image: Text | None = None
    """Ignored by the local driver."""
    resources: JsonObject = Field(default_factory=dict)
    pod_template: JsonObject = Field(default_factory=dict)
    exactness: Literal["strict", "relaxed"] = "strict"
    """Relaxed allows workers of different kinds, and marks results as inexact."""
    max_grace: PositiveDuration = "10m"
    """Longest time that a worker may take to save and leave when told to."""

    @property
    def max_grace_seconds(self) -> float:
        return seconds(self.max_grace)


class Checkpoints(SpecModel):
    retain: Literal["best", "all", "none"] = "best"
    """What is kept once the study has ended."""
    every: PositiveDuration = "10m"
    ttl: Duration = "7d"
    """How long after the study's deletion."""

    @property
    def every_seconds(self) -> float:
        return seconds(self.every)

    @property
    def ttl_seconds(self) -> float:
        return seconds(self.ttl)


class StudySpec(SpecModel):
    objective: Objective
    steps: Annotated[Count, AfterValidator(_steps)]
    """Length of a fully trained trial."""
    space: Annotated[dict[str, Any], BeforeValidator(_space)]
    """Hyper-parameter to domain, as written; ``Study.search_space`` is what it means."""
    algorithm: Annotated[SerializeAsAny[AlgorithmSettings], BeforeValidator(read_algorithm)]
    max_trials: Count | None = None
    max_failed_trials: Natural = 3
    replicates: Natural = 0
    """In the end the best trials are trained again under so many other seeds."""
    replicate_best: Count = 3
    """How many of the best."""
    parallelism: Count | None = None
    """Most workers at once; None: as many as there are."""
    priority: Integer = 0
    suspend: bool = False
    """Running work is saved and stopped, and goes on when this is false again."""
    budget: Budget = Budget()
    retries: Natural = 3
    """Per chain."""
    trainer: TrainerSpec
    checkpoints: Checkpoints = Checkpoints()

    @cached_property
    def search_space(self) -> Space:
        return Space(self.space)

    @model_validator(mode="after")
    def _agree(self) -> StudySpec:
        errors: list[tuple[str, str]] = []
        try:
            self.algorithm.check(self.steps)
        except InvalidSpec as error:
            errors += error.errors
        if self.objective.test_metric == self.objective.metric:
            errors.append(("objective.testMetric", "must not be the metric that trials compete by"))
        space = self.search_space
        try:
            self.algorithm.check_space(space, self.max_trials)
        except InvalidSpec as error:
            errors += error.errors
        if not self.algorithm.samples:
            errors += [(f"space.{name}", NOT_ENUMERABLE) for name in space.continuous]
        elif self.max_trials is None and space.size is None and not self.algorithm.bounded:
            names = ", ".join(space.continuous)
            errors.append(
                (
                    "maxTrials",
                    f"is missing; {self.algorithm.name} needs it, because {names} can take any "
                    "number of values",
                )
            )
        if errors:
            raise InvalidSpec(errors)
        return self


class Study(SpecModel):
    """One kind of object, on disk, on the command line and in the cluster."""

    api_version: Literal["hippo.dev/v1alpha1"]
    kind: Literal["Study"]
    metadata: Metadata
    spec: StudySpec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace or DEFAULT_NAMESPACE

    def search_space(self) -> Space:
        """The space; always the same object."""
        return self.spec.search_space


_SERVER_METADATA = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
"""What the API server adds; none of it is the user's wish."""


def parse_study(document: object) -> Study:
    """Reads a study from plain data. Raises InvalidSpec with every problem and its path."""
    if not isinstance(document, Mapping):
        raise InvalidSpec.at("", f"a study must be a mapping, not {describe(document)}")
    document = {key: item for key, item in document.items() if key != "status"}
    metadata = document.get("metadata")
    if isinstance(metadata, Mapping):
        document["metadata"] = {
            key: item for key, item in metadata.items() if key not in _SERVER_METADATA
        }
    return validate(Study, document)
