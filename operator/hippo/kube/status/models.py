"""What the operator writes into ``status``: the models from which the CRDs' schemas are made too.

Statuses are views: everything in them follows from specs and from the store. The one exception is
``SearchPlanStatus.chains``, the record of what has been launched.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hippo.kube.resources import StatusModel
from hippo.model.bounds import LARGEST_NUMBER


def _clip(value: Any) -> Any:
    """A status is always written: a number beyond its bounds becomes the bound."""
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, 0), MAX_TALLY)
    return value


ENDED = ("Succeeded", "Failed")
"""Phases of a study that has ended."""


def may_go_on(
    *,
    phase: str | None,
    observed_generation: int | None,
    generation: int,
    retried: str | None,
    retry: str | None,
) -> bool:
    """Whether a study has not ended, or was edited since, or is to try failed trials again.

    The first two and ``retried`` are of its status; ``retry`` is what its annotation says now.
    """
    is_edited = observed_generation != generation
    return phase not in ENDED or is_edited or retry not in (None, retried)


MAX_TALLY = 10**18
"""Any number of steps or trials in a status; an API server's integers hold it."""
Tally = Annotated[
    int,
    BeforeValidator(_clip),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_TALLY}),
]
Figure = Annotated[
    float,
    WithJsonSchema({"type": "number", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}),
]
Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""In RFC 3339: 2026-01-31T12:00:00Z."""


class Condition(StatusModel):
    """A condition as all of Kubernetes writes them."""

    type: str
    """Accepted, Progressing, Suspended, Complete, Failed, or NonDeterministic."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str
    """One word for programs."""
    message: str = ""
    """What a person should know, and do."""
    last_transition_time: Timestamp
    """When the status changed last."""
    observed_generation: Tally | None = None
    """Generation of the spec that it speaks of."""


class TrialCounts(StatusModel):
    """How many trials there are, by phase."""

    total: Tally = 0
    """That there will be, as far as is known."""
    pending: Tally = 0
    """Whose next request is not fulfilled yet."""
    running: Tally = 0
    """Of the pending ones: for which a worker is at work now."""
    paused: Tally = 0
    """That the tuner may ask to go on."""
    completed: Tally = 0
    """Trained up to the study's steps."""
    stopped: Tally = 0
    """Ended early: by the tuner, by a user, or because the study ended."""
    diverged: Tally = 0
    """Ended by a metric that was not finite."""
    failed: Tally = 0
    """Whose training failed for good."""


class BestTrial(StatusModel):
    """The best trial so far."""

    trial: str
    """Its name."""
    value: Figure | None = None
    """Of the objective."""
    shown: str | None = None
    """The value in six digits, for tables."""
    step: Tally
    """Where it has that value."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Its sequence, as written, as far as there is room."""
    metrics: dict[str, Figure | None] = Field(default_factory=dict)
    """All metrics at that step, as far as there is room."""
    metrics_count: Tally | None = None
    """How many there are, if not all stand here."""


class StudyStatus(StatusModel):
    """How a study stands."""

    observed_generation: Tally | None = None
    """Generation of the spec that this status speaks of."""
    phase: Literal["Rejected", "Pending", "Running", "Suspended", "Succeeded", "Failed"] | None = (
        None
    )
    """How it stands, in one word."""
    message: str = ""
    """Why it is in this phase."""
    plan: str | None = None
    """Name of the SearchPlan that it shares with other studies of its trainer."""
    progress: str | None = None
    """Trials that have ended, of all: "12/48"."""
    underway: str | None = None
    """The others, as far as the tuner has asked for them: "8 running, 5 paused"."""
    trials: TrialCounts | None = None
    """How many there are, by phase."""
    best: BestTrial | None = None
    """The best trial so far."""
    steps_requested: Tally | None = None
    """By all its trials, each counted alone."""
    steps_reached: Tally | None = None
    """Of these, the steps whose results are there."""
    steps_trained: Tally | None = None
    """Trained for it so far; what several studies asked for is split evenly. As long as it is 0,
    spec.trainer may be edited."""
    merge_rate: Figure | None = None
    """Steps requested / steps once merged, of this study's trials; 1 means that nothing is
    shared."""
    worker_hours: Figure | None = None
    """Charged to the study so far; the cost of a shared stage is split evenly."""
    worker_seconds: Figure | None = None
    """The same in seconds."""
    saved_hours: Figure | None = None
    """Estimate: worker-hours that its trials, as far as they came, would have cost one by one,
    less those charged."""
    saved: str | None = None
    """The same as a share: "63%"."""
    started_at: Timestamp | None = None
    """When work on it began."""
    ended_at: Timestamp | None = None
    """When it ended."""
    retried: str | None = None
    """Value of the annotation hippo.dev/retry-failed for which failed trials were tried again."""
    conditions: list[Condition] = Field(default_factory=list)
    """Accepted, Progressing, Suspended, Complete, Failed; NonDeterministic if it is."""


class TrialStatus(StatusModel):
    """How a trial stands."""

    phase: (
        Literal["Rejected", "Pending", "Paused", "Completed", "Stopped", "Diverged", "Failed"]
        | None
    ) = None
    """How it stands, in one word."""
    step: Tally | None = None
    """Its last step with metrics."""
    value: Figure | None = None
    """Of the objective, there."""
    metrics: dict[str, Figure | None] = Field(default_factory=dict)
    """All metrics there, as far as there is room."""
    metrics_count: Tally | None = None
    """How many there are, if not all stand here."""
    stages: list[str] = Field(default_factory=list)
    """Its way through the stage tree, as ranges of steps: "0-60", "60-90", ..."""
    reason: str = ""
    """Why it is as it is."""
    exact: bool | None = None
    """Whether its result is bit-identical to training it alone."""


class ChainRecord(StatusModel):
    """A chain that was launched and whose end was not taken in yet. Written before its pod.

    All are written whenever one is: what its pod tells does not stand here.
    """

    name: str
    """Unique within the plan for ever: each attempt has another. Its pod is named after it."""
    study: str
    """The lead study, which lends template and slot."""


class StageCounts(StatusModel):
    """Stages of the tree, by state."""

    done: Tally = 0
    """Trained."""
    running: Tally = 0
    """In a worker's hands."""
    pending: Tally = 0
    """Still to be trained."""
    failed: Tally = 0
    """That failed for good."""


class TreeStage(StatusModel):
    """A stage of the live tree."""

    steps: str
    """The range of steps: "60-90"."""
    state: Literal["Pending", "Running", "Done", "Failed", "Folded"]
    """How it stands; folded: an entry for a finished subtree."""
    trials: Tally
    """Trials that need it."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters as they are from here on, where they differ from the stage before."""
    depth: Tally
    """How many stages lie before it on its path: the list is in depth-first order."""
    chain: str | None = None
    """The chain that trains it."""
    stages: Tally | None = None
    """Folded: how many stages this entry stands for."""


class SearchPlanStatus(StatusModel):
    """How a plan stands."""

    studies: list[str] = Field(default_factory=list)
    """Of all that share it, live ones first; at most 100 names."""
    studies_count: Tally = 0
    """How many share it."""
    trials: TrialCounts | None = None
    """Of all its studies, by phase."""
    stages: StageCounts | None = None
    """Of the stage tree, by state."""
    stages_summary: str | None = None
    """Stages done/running/pending."""
    steps_requested: Tally | None = None
    """By all trials, each counted alone."""
    steps_unique: Tally | None = None
    """The same once merged."""
    steps_trained: Tally | None = None
    """That workers have trained."""
    merge_rate: Figure | None = None
    """Steps requested / steps once merged; 1 means that nothing is shared."""
    worker_seconds: Figure | None = None
    """That its workers have taken."""
    saved_seconds: Figure | None = None
    """Estimate: worker-seconds that its trials would have cost one by one, less those taken."""
    format_version: Tally | None = None
    """Of what the operator has written here: an older operator leaves the plan alone."""
    generation: Tally = 0
    """Of the operator's hold on the plan; chains are named after it."""
    image_id: str | None = None
    """Of the first pod; another one stops the plan."""
    fingerprint: dict[str, str] = Field(default_factory=dict)
    """Software and hardware of the first worker."""
    chains: list[ChainRecord] = Field(default_factory=list)
    """What was launched and whose end was not taken in yet: the operator's memory. Not to be
    edited."""
    tree: list[TreeStage] = Field(default_factory=list)
    """The stage tree, finished subtrees folded first, so that it stays small."""
    conditions: list[Condition] = Field(default_factory=list)
    """Progressing: why work goes on, or does not."""


class SearchPlanSpec(StatusModel):
    """What the studies of a plan have in common. Written by the operator."""

    signature: str
    """Hash of all that results depend on, beside the hyper-parameter sequence."""
    entrypoint: str = ""
    """Of the trainer: module:Class."""
    image: str | None = None
    """The container image with the trainer."""
    store: str = ""
    """Where its results lie in the store: <namespace>/<plan>."""
