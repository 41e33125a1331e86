"""What the operator writes into ``status``: the models from which the CRDs' schemas are made too.

Statuses are views: everything in them follows from specs and from the store. The one exception is
``SearchPlanStatus.chains``, the record of what has been launched.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class StatusModel(BaseModel):
    """camelCase outside; every number finite or null."""

    model_config = ConfigDict(
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )


class Condition(StatusModel):
    """A condition as all of Kubernetes writes them."""

    type: str
    """Accepted, Progressing, Suspended, Complete, Failed, or NonDeterministic."""
    status: Literal["True", "False", "Unknown"]
    reason: str
    """One word for programs."""
    message: str = ""
    """What a person should know, and do."""
    last_transition_time: str
    """When the status changed last, in RFC 3339."""
    observed_generation: int | None = None


class TrialCounts(StatusModel):
    """How many trials there are, by phase."""

    total: int = 0
    """That there will be, as far as is known."""
    pending: int = 0
    """Whose next request is not fulfilled yet."""
    paused: int = 0
    """That the tuner may ask to go on."""
    completed: int = 0
    """Trained up to the study's steps."""
    stopped: int = 0
    diverged: int = 0
    failed: int = 0


class BestTrial(StatusModel):
    """The best trial so far."""

    trial: str
    value: float | None = None
    """Of the objective."""
    step: int
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, float | None] = Field(default_factory=dict)


class StudyStatus(StatusModel):
    """How a study stands."""

    observed_generation: int | None = None
    phase: Literal["Rejected", "Pending", "Running", "Suspended", "Succeeded", "Failed"] | None = (
        None
    )
    message: str = ""
    """Why it is in this phase."""
    plan: str | None = None
    """Name of the SearchPlan that it shares with other studies of its trainer."""
    progress: str | None = None
    """Trials that have ended, of all: "12/48"."""
    trials: TrialCounts | None = None
    best: BestTrial | None = None
    steps_requested: int | None = None
    """By all its trials, each counted alone."""
    steps_reached: int | None = None
    """Of these, the steps whose results are there."""
    merge_rate: float | None = None
    """Steps requested / steps once merged, of this study's trials; 1 means that nothing is
    shared."""
    worker_hours: float | None = None
    """Charged to the study so far; the cost of a shared stage is split evenly."""
    worker_seconds: float | None = None
    saved_hours: float | None = None
    """Estimate: worker-hours that its trials, as far as they came, would have cost one by one,
    less those charged."""
    saved: str | None = None
    """The same as a share: "63%"."""
    started_at: str | None = None
    ended_at: str | None = None
    conditions: list[Condition] = Field(default_factory=list)


class TrialStatus(StatusModel):
    """How a trial stands."""

    phase: (
        Literal[
            "Rejected", "Pending", "Paused", "Completed", "Stopped", "Diverged", "Failed"
        ]
        | None
    ) = None
    step: int | None = None
    """Its last step with metrics."""
    value: float | None = None
    """Of the objective, there."""
    metrics: dict[str, float | None] = Field(default_factory=dict)
    """All metrics there."""
    stages: list[str] = Field(default_factory=list)
    """Its way through the stage tree, as ranges of steps: "0-60", "60-90", ..."""
    reason: str = ""
    """Why it is as it is."""
    exact: bool | None = None
    """Whether its result is bit-identical to training it alone."""


class ChainRecord(StatusModel):
    """A chain that was launched and whose end was not taken in yet. Written before its pod."""

    name: str
    """Unique within the plan for ever: each attempt has another."""
    pod: str
    study: str
    """The lead study, which lends template and slot."""
    start: int
    """Step of the checkpoint that it starts from."""
    stop: int
    """Step that it goes to, as launched."""
    root_key: str
    """Content key of its first stage."""
    launched_at: str


class StageCounts(StatusModel):
    """Stages of the tree, by state."""

    done: int = 0
    running: int = 0
    pending: int = 0
    failed: int = 0


class TreeStage(StatusModel):
    """A stage of the live tree."""

    steps: str
    """The range of steps: "60-90"."""
    state: Literal["Pending", "Running", "Done", "Failed", "Folded"]
    trials: int
    """Trials that need it."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Hyper-parameters as they are from here on, where they differ from the stage before."""
    depth: int
    """How many stages lie before it on its path: the list is in depth-first order."""
    chain: str | None = None
    """The chain that trains it."""
    stages: int | None = None
    """Folded: how many stages this entry stands for."""


class SearchPlanStatus(StatusModel):
    """How a plan stands."""

    studies: list[str] = Field(default_factory=list)
    """Of all that share it, live ones first; at most 100 names."""
    studies_count: int = 0
    trials: TrialCounts | None = None
    stages: StageCounts | None = None
    stages_summary: str | None = None
    """Done/running/pending."""
    steps_requested: int | None = None
    steps_unique: int | None = None
    steps_trained: int | None = None
    merge_rate: float | None = None
    worker_seconds: float | None = None
    saved_seconds: float | None = None
    generation: int = 0
    """Of the operator's hold on the plan; chains are named after it."""
    image_id: str | None = None
    """Of the first pod; another one stops the plan."""
    fingerprint: dict[str, str] = Field(default_factory=dict)
    """Software and hardware of the first worker."""
    chains: list[ChainRecord] = Field(default_factory=list)
    tree: list[TreeStage] = Field(default_factory=list)
    """The stage tree, finished subtrees folded first, so that it stays small."""
    conditions: list[Condition] = Field(default_factory=list)


class SearchPlanSpec(StatusModel):
    """What the studies of a plan have in common. Written by the operator."""

    signature: str
    """Hash of all that results depend on, beside the hyper-parameter sequence."""
    entrypoint: str = ""
    image: str | None = None
    store: str = ""
    """Where its results lie in the store: <namespace>/<plan>."""
