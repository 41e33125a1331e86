"""The Study object: its specification, validation and parsing."""

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
"""Characters of a study's name: derived names of trials and pods have at most 63."""

DEFAULT_NAMESPACE = "default"
MAX_NAMESPACE = 63

_FOR_EVER = 1e9
"""Seconds; operating-system timers do not accept much more."""
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ENTRYPOINT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_name(value: str) -> str:
    """Returns the name of a study if it is valid. Raises InvalidSpec."""
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
    """Returns the namespace if it is valid. Raises InvalidSpec."""
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
    # If ``steps`` is invalid, everything but the number of pieces can still be checked.
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
    # The pattern accepts any character beyond ASCII: only Python knows which ones are letters.
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
    """Studies in different namespaces share nothing. None means ``default``."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Objective(SpecModel):
    """The metric by which trials are compared."""

    metric: Label
    """Name of a metric that the trainer's ``evaluate()`` returns."""
    goal: Literal["maximize", "minimize"]
    """Whether larger or smaller values of the metric are better."""
    target: Number | None = None
    """The study ends once a trial reaches this value."""
    test_metric: Label | None = None
    """Another of the trainer's metrics, shown only for the winner and only once the study has
    ended."""


class Budget(SpecModel):
    """Limits on the study's spending; when one is reached, it ends with its results so far."""

    worker_hours: Annotated[float, Real(0, MAX_WORKER_HOURS, above=True)] | None = None
    """Total time of all workers. A shared stage is charged in equal parts to the studies that need
    it."""
    wall_time: PositiveDuration | None = None
    """Time for which the study is active, such as 24h; suspended time does not count."""

    @property
    def wall_seconds(self) -> float | None:
        return None if self.wall_time is None else seconds(self.wall_time)


class TrainerSpec(SpecModel):
    """The trainer. Everything that results depend on is part of its signature."""

    entrypoint: Entrypoint
    """``module:Class``, importable in the image or below the study's folder."""
    config: JsonObject = Field(default_factory=dict)
    """Passed to the trainer unchanged. Part of the signature."""
    seed: Integer = 0
    """Seed of everything random in training: initial weights, data order, dropout. Defaults to
    0."""
    threads: Annotated[int, Whole(1, MAX_THREADS)] = 1
    """CPU threads of a worker; results depend on it. Defaults to 1."""
    version: Annotated[str, AfterValidator(check_length), Field(json_schema_extra=_SHORT)] = ""
    """Free text, such as a version of the data. Changing it starts training afresh."""
    image: Label | None = None
    """Container image with the trainer. Ignored by the local driver."""
    resources: JsonObject = Field(default_factory=dict)
    """Resource requests and limits of the trainer's container. Ignored by the local driver."""
    pod_template: JsonObject = Field(default_factory=dict)
    """Pod template, merged over the pods that the operator builds. The trainer's container is named
    trainer. Fields that Hippo does not list are refused unless an administrator allows them.
    Ignored by the local driver."""
    exactness: Literal["strict", "relaxed"] = "strict"
    """Relaxed allows workers of different hardware, and marks results as inexact. Defaults to
    strict."""
    max_grace: PositiveDuration = "10m"
    """Longest time a worker may take to save and exit when told to stop. Defaults to 10m."""
    step_timeout: PositiveDuration | None = None
    """Time limit of a step, an evaluation or another call of the trainer. Exceeding it ends the
    worker, and the work is retried. No limit if absent."""

    @property
    def step_timeout_seconds(self) -> float | None:
        """The limit in seconds; None if it is absent or too large for a timer."""
        limit = math.inf if self.step_timeout is None else seconds(self.step_timeout)
        return limit if limit < _FOR_EVER else None

    @property
    def max_grace_seconds(self) -> float:
        return seconds(self.max_grace)


class Checkpoints(SpecModel):
    """Which checkpoints are kept, and for how long."""

    retain: Literal["best", "all", "none"] = "best"
    """Trials whose checkpoints are kept once the study has ended. Defaults to best."""
    every: PositiveDuration = "10m"
    """Longest training time without a checkpoint; an extra one is saved after it. Defaults to
    10m."""
    ttl: Duration = "7d"
    """How long retained checkpoints outlive the deletion of the study; also how long a study that
    ended by a limit that may be raised can resume from its checkpoints. Defaults to 7d."""

    @property
    def every_seconds(self) -> float:
        return seconds(self.every)

    @property
    def ttl_seconds(self) -> float:
        return seconds(self.ttl)


class StudySpec(SpecModel):
    """The specification of a study: trainer, space, algorithm, length, limits and budget."""

    objective: Objective
    """The metric by which trials are compared."""
    steps: StepCount
    """Length of a fully trained trial, in the trainer's steps."""
    space: Annotated[dict[str, Any], BeforeValidator(_space)]
    """Domain of each hyper-parameter: choices, uniform, or int. At least one."""
    algorithm: Annotated[SerializeAsAny[AlgorithmSettings], BeforeValidator(read_algorithm)]
    """Name and settings of the tuner."""
    max_trials: TrialCount | None = None
    """Most trials. Defaults to all points of the space; required if a domain is continuous, except
    with algorithms that end by themselves. May only grow."""
    max_failed_trials: Annotated[int, Whole(0, MAX_TRIALS)] = 3
    """The study fails when more distinct stages than this have failed. Trials behind the same
    failed stage count once. Defaults to 3."""
    replicates: Annotated[int, Whole(0, MAX_REPLICATES)] = 0
    """At the end, each of the best trials is retrained under this many other seeds. Defaults to
    0."""
    replicate_best: Annotated[int, Whole(1, MAX_REPLICATES)] = 3
    """Number of best trials that are replicated. Defaults to 3."""
    parallelism: Annotated[int, Whole(1, MAX_PARALLELISM)] | None = None
    """Most concurrent workers of this study. No limit of its own if absent."""
    priority: Annotated[int, Whole(-MAX_PRIORITY, MAX_PRIORITY)] = 0
    """Studies of higher priority get workers first; equal priorities share them. Defaults to 0."""
    suspend: bool = False
    """While true, running work is saved and stopped; it resumes when this is false again."""
    budget: Budget = Budget()
    """Limits on the study's spending; when one is reached, it ends with its results so far."""
    retries: Annotated[int, Whole(0, MAX_RETRIES)] = 3
    """Number of retries of a failing chain. Defaults to 3."""
    trainer: TrainerSpec
    """The trainer. Everything that results depend on is part of its signature."""
    checkpoints: Checkpoints = Checkpoints()
    """Which checkpoints are kept, and for how long."""

    @cached_property
    def search_space(self) -> Space:
        """The parsed ``space``; ``space`` itself stays as written."""
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
        """Yields costs that exceed a study's budget although each part is within its own bounds."""
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
    """A study: the same object on disk, on the command line and in the cluster."""

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
        """Returns the parsed space; always the same object."""
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
"""Metadata that the API server adds; it is not part of the user's intent."""


def parse_study(document: object) -> Study:
    """Parses a study from plain data. Raises InvalidSpec with every problem and its path."""
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
