"""The study: what to train, over which space, how far, and what may be spent on it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    SerializeAsAny,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from hippo.model.algorithms import AlgorithmSettings, read_algorithm
from hippo.model.bounds import (
    LARGEST_INTEGER,
    MAX_DRAWN_PIECES,
    MAX_LABEL,
    MAX_PARALLELISM,
    MAX_PRIORITY,
    MAX_REPLICATED,
    MAX_REPLICATES,
    MAX_RETRIES,
    MAX_THREADS,
    MAX_TRIAL_PIECES,
    MAX_TRIALS,
    MAX_WORKER_HOURS,
)
from hippo.model.budget import FORMULA, cost_of
from hippo.model.errors import InvalidSpec
from hippo.model.fields import (
    Duration,
    Integer,
    JsonObject,
    Label,
    Number,
    PositiveDuration,
    Real,
    SpecModel,
    StepCount,
    TrialCount,
    Whole,
    check_length,
    seconds,
    validate,
)
from hippo.model.measuring import check_size
from hippo.model.sequences.numbers import describe, plain
from hippo.model.spaces.domain_reader import read_space
from hippo.model.spaces.space import NOT_ENUMERABLE, Space

API_VERSION = "hippo.dev/v1alpha1"
MAX_NAME = 52
"""Characters of a study's name: names of its trials and pods, derived from it, hold at most 63."""

DEFAULT_NAMESPACE = "default"
MAX_NAMESPACE = 63

_FOR_EVER = 1e9
"""Seconds; timers of the operating system do not take much more."""
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


def _space(value: Any, info: ValidationInfo) -> dict[str, Any]:
    # Without a sound number of steps, all but the pieces can still be checked.
    read_space(value, info.data.get("steps"), "")
    copied = plain(value)
    assert isinstance(copied, dict)
    return copied


StudyName = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema({"type": "string", "maxLength": MAX_NAME, "pattern": f"^{_LABEL.pattern}$"}),
]
_SHORT: dict[str, JsonValue] = {"maxLength": MAX_LABEL}
Entrypoint = Annotated[
    str,
    AfterValidator(check_length),
    AfterValidator(_entrypoint),
    # Of characters beyond ASCII only Python knows which are letters.
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": MAX_LABEL,
            "pattern": "^{0}:{0}$".format(r"[^\s:.0-9][^\s:.]*(\.[^\s:.0-9][^\s:.]*)*"),
        }
    ),
]


class Metadata(SpecModel):
    name: StudyName
    namespace: Annotated[str, AfterValidator(check_namespace)] | None = None
    """Studies of two namespaces never share anything; None: ``default``."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Objective(SpecModel):
    """What trials are compared by."""

    metric: Label
    """A name that the trainer's ``evaluate()`` returns."""
    goal: Literal["maximize", "minimize"]
    """Whether more is better, or less."""
    target: Number | None = None
    """Once a trial reaches it, the study is done."""
    test_metric: Label | None = None
    """Another of the trainer's metrics, shown for the winner only, and once all is decided."""


class Budget(SpecModel):
    """When any part is spent, the study ends with what it has."""

    worker_hours: Annotated[float, Real(0, MAX_WORKER_HOURS, above=True)] | None = None
    """Time of all workers together. A shared stage is charged evenly to the studies that ask."""
    wall_time: PositiveDuration | None = None
    """Time in which the study was active, such as 24h; it stands still while suspended."""

    @property
    def wall_seconds(self) -> float | None:
        return None if self.wall_time is None else seconds(self.wall_time)


class TrainerSpec(SpecModel):
    """What trains; everything that results depend on is part of the signature."""

    entrypoint: Entrypoint
    """``module:Class``, importable in the image or below the study's folder."""
    config: JsonObject = Field(default_factory=dict)
    """Handed to the trainer as it is. Part of the signature."""
    seed: Integer = 0
    """Of initial weights, data order, dropout: everything random in training. 0 if absent."""
    threads: Annotated[int, Whole(1, MAX_THREADS)] = 1
    """CPU threads of a worker; results depend on it. 1 if absent."""
    version: Annotated[str, AfterValidator(check_length), Field(json_schema_extra=_SHORT)] = ""
    """Free text: a version of the data, or a reason to start afresh."""
    image: Label | None = None
    """The container image with the trainer. Ignored by the local driver."""
    resources: JsonObject = Field(default_factory=dict)
    """Requests and limits of the trainer's container. Ignored by the local driver."""
    pod_template: JsonObject = Field(default_factory=dict)
    """A pod template, merged over the pods that the operator builds; the trainer's container is
    named trainer. Fields that Hippo does not list are refused, unless an administrator allows them.
    Ignored by the local driver."""
    exactness: Literal["strict", "relaxed"] = "strict"
    """Relaxed allows workers of different kinds, and marks results as inexact. Strict if absent."""
    max_grace: PositiveDuration = "10m"
    """Longest time that a worker may take to save and leave when told to. 10m if absent."""
    step_timeout: PositiveDuration | None = None
    """A step, an evaluation or another call of the trainer that takes longer ends its worker, and
    is tried again. No limit if absent."""

    @property
    def step_timeout_seconds(self) -> float | None:
        """None, and more than anybody waits for: no limit."""
        limit = math.inf if self.step_timeout is None else seconds(self.step_timeout)
        return limit if limit < _FOR_EVER else None

    @property
    def max_grace_seconds(self) -> float:
        return seconds(self.max_grace)


class Checkpoints(SpecModel):
    """Which checkpoints are kept, and for how long."""

    retain: Literal["best", "all", "none"] = "best"
    """Of which trials, once the study has ended. Best if absent."""
    every: PositiveDuration = "10m"
    """An extra save after this long without one. 10m if absent."""
    ttl: Duration = "7d"
    """How long what is retained outlives the study's deletion; and what it may go on from, an end
    by a limit that may be raised. 7d if absent."""

    @property
    def every_seconds(self) -> float:
        return seconds(self.every)

    @property
    def ttl_seconds(self) -> float:
        return seconds(self.ttl)


class StudySpec(SpecModel):
    """What to train, over which space, how far, and what may be spent on it."""

    objective: Objective
    """What trials are compared by."""
    steps: StepCount
    """Length of a fully trained trial, in the trainer's steps."""
    space: Annotated[dict[str, Any], BeforeValidator(_space)]
    """The domain of each hyper-parameter: choices, uniform, or int; at least one."""
    algorithm: Annotated[SerializeAsAny[AlgorithmSettings], BeforeValidator(read_algorithm)]
    """The tuner: its name, and its settings beside it."""
    max_trials: TrialCount | None = None
    """Most trials. All points of the space if absent; required if a domain is continuous, except
    by the algorithms that end by themselves. May only grow."""
    max_failed_trials: Annotated[int, Whole(0, MAX_TRIALS)] = 3
    """More different failing stages than this fail the study; trials behind one failing stage
    count once. 3 if absent."""
    replicates: Annotated[int, Whole(0, MAX_REPLICATES)] = 0
    """In the end the best trials are trained again under so many other seeds. 0 if absent."""
    replicate_best: Annotated[int, Whole(1, MAX_REPLICATES)] = 3
    """How many of the best trials are replicated. 3 if absent."""
    parallelism: Annotated[int, Whole(1, MAX_PARALLELISM)] | None = None
    """Most workers at once for this study; as many as there are if absent."""
    priority: Annotated[int, Whole(-MAX_PRIORITY, MAX_PRIORITY)] = 0
    """Studies of higher priority get workers first; equal ones share. 0 if absent."""
    suspend: bool = False
    """Running work is saved and stopped, and goes on when this is false again."""
    budget: Budget = Budget()
    """When any part is spent, the study ends with what it has."""
    retries: Annotated[int, Whole(0, MAX_RETRIES)] = 3
    """How often a failing chain is tried again. 3 if absent."""
    trainer: TrainerSpec
    """What trains; everything that results depend on is part of its signature."""
    checkpoints: Checkpoints = Checkpoints()
    """Which checkpoints are kept, and for how long."""

    @cached_property
    def search_space(self) -> Space:
        """What ``space`` means, which is kept as it was written."""
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
        errors = errors or list(self._find_excess(space))
        if errors:
            raise InvalidSpec(errors)
        return self

    def _find_excess(self, space: Space) -> Iterator[tuple[str, str]]:
        """Costs that exceed a study's budget although each part is within its bounds."""
        replicated = self.replicates * self.replicate_best
        if replicated > MAX_REPLICATED:
            yield (
                "replicates",
                f"make {replicated:,} trials with replicateBest: lower one, to"
                f" {MAX_REPLICATED:,} at most",
            )
        if self.trainer.seed + self.replicates > LARGEST_INTEGER:
            yield "trainer.seed", "leaves no room for the seeds of replicates: take a smaller one"
        trials = self.algorithm.count_trials(space, self.max_trials, self.steps)
        if trials is not None and trials > MAX_TRIALS:
            is_pbt = self.algorithm.name == "pbt"
            yield (
                "algorithm.population" if is_pbt else "maxTrials",
                f"may lead to {MAX_TRIALS:,} trials at most: take fewer, or a longer interval"
                if is_pbt
                else f"is missing: without it there are more than {MAX_TRIALS:,} trials, the most"
                " that a study may have",
            )
            return
        costs = [cost_of(self.space[name], self.steps) for name in space.names]
        each = sum(cost.own_pieces for cost in costs) * self.algorithm.own_parts(self.steps)
        if trials is not None and trials * each > MAX_TRIAL_PIECES:
            yield (
                "space",
                f"may give a trial {each:,} pieces of its own (a formula counts as {FORMULA}), and"
                f" all trials together no more than {MAX_TRIAL_PIECES:,}: let schedules change"
                f" less often, or have {MAX_TRIAL_PIECES // each:,} trials at most, not {trials:,}",
            )
        draws = getattr(self.algorithm, "prefix_first", None)
        if draws is not None and draws.candidates * max(each - len(costs), 0) > MAX_DRAWN_PIECES:
            yield (
                "algorithm.prefixFirst.candidates",
                f"must be at most {max(MAX_DRAWN_PIECES // each, 1)} where a trial may have"
                f" {each:,} pieces of its own",
            )


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
    check_size(document)
    document = {key: item for key, item in document.items() if key != "status"}
    metadata = document.get("metadata")
    if isinstance(metadata, Mapping):
        document["metadata"] = {
            key: item for key, item in metadata.items() if key not in _SERVER_METADATA
        }
    return validate(Study, document)
