"""The definitions of Hippo's kinds, made from the models: one source for what may be written.

This module needs no Kubernetes client, so ``hippo crds`` runs everywhere.
"""

from __future__ import annotations

from typing import Any

from hippo.kube.crds import cel_rules
from hippo.kube.crds.space_schema import space_schema
from hippo.kube.crds.structural_schema import UNTYPED, Schema, build_schema
from hippo.kube.names import (
    ANNOTATION_FORMAT,
    CLUSTER_FORMAT,
    GROUP,
    SEARCH_PLANS,
    STUDIES,
    TRIALS,
    VERSION,
)
from hippo.kube.status.models import SearchPlanSpec, SearchPlanStatus, StudyStatus, TrialStatus
from hippo.model import AlgorithmSettings, StudySpec
from hippo.model.algorithms import SAMPLER_SETTINGS
from hippo.model.fields import Whole
from hippo.model.trial import TrialSpec

_VALIDATIONS = "x-kubernetes-validations"

_DURATIONS = {
    ("budget", "wallTime"): True,
    ("trainer", "maxGrace"): True,
    ("trainer", "stepTimeout"): True,
    ("checkpoints", "every"): True,
    ("checkpoints", "ttl"): False,
}
"""And whether it must be longer than nothing."""

PARALLELISM = (
    "Most pods at once for this study. If absent, the operator's default: 4, unless its admin has"
    " set another. Quotas and nodes may have room for fewer."
)
"""The chart puts its own default in place of the 4."""

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def build_crds() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions of Study, Trial and SearchPlan."""
    return [_study(), _trial(), _search_plan()]


def _study() -> dict[str, Any]:
    spec = build_schema(StudySpec)
    properties = spec["properties"]
    _replace(properties, "space", {**space_schema(), _VALIDATIONS: cel_rules.space_rules()})
    _replace(properties, "algorithm", _algorithm())
    properties["objective"][_VALIDATIONS] = cel_rules.objective_rules()
    for (outer, inner), positive in _DURATIONS.items():
        duration = properties[outer]["properties"][inner]
        duration[_VALIDATIONS] = cel_rules.duration_rules(positive=positive)
    properties["parallelism"]["description"] = PARALLELISM
    spec[_VALIDATIONS] = cel_rules.study_rules()
    return _definition(
        plural=STUDIES,
        kind="Study",
        short_name="hst",
        about="Trains one model under many hyper-parameter sequences, and what they share once.",
        spec=spec,
        status=build_schema(StudyStatus),
        validations=[*cel_rules.STUDY_NAME_RULES, cel_rules.trainer_rule()],
        columns=[
            _column("Phase", ".status.phase", "How the study stands."),
            _column("Trials", ".status.progress", "Trials that have ended, of all."),
            _column("Under way", ".status.underway", "Trials that run, wait, or are paused."),
            _column("Best", ".status.best.shown", "Of the objective."),
            _column(
                "Merge rate", ".status.mergeRate", "Steps requested / once merged.", type="number"
            ),
            _column("Worker-hours", ".status.workerHours", "Charged so far.", type="number"),
            _column("Saved", ".status.saved", "Share of the work that merging saved."),
            _AGE,
            _column("Plan", ".status.plan", "Its SearchPlan.", wide=True),
            _column("Metric", ".spec.objective.metric", "What trials compete by.", wide=True),
            _column("Message", ".status.message", "Why it is in this phase.", wide=True),
        ],
    )


def _trial() -> dict[str, Any]:
    spec = build_schema(TrialSpec)
    properties = spec["properties"]
    # No schema for each: rules would not see the field, and it must not change.
    _replace(properties, "hyperparameters", {"type": "object", "minProperties": 1, **UNTYPED})
    decisions = properties["decisions"]
    decisions["x-kubernetes-list-type"] = "map"
    decisions["x-kubernetes-list-map-keys"] = ["index"]
    decisions["items"][_VALIDATIONS] = cel_rules.decision_rules()
    spec[_VALIDATIONS] = cel_rules.trial_rules()
    return _definition(
        plural=TRIALS,
        kind="Trial",
        short_name="htr",
        about="One trial of a study: a hyper-parameter sequence, and the step that it is to reach.",
        spec=spec,
        status=build_schema(TrialStatus),
        validations=cel_rules.TRIAL_NAME_RULES,
        columns=[
            _column("Study", ".spec.study", "Whose trial it is."),
            _column("Phase", ".status.phase", "How the trial stands."),
            _column("Step", ".status.step", "Its last step with metrics.", type="integer"),
            _column("Value", ".status.value", "Of the objective, there.", type="number"),
            _AGE,
            _column("Reason", ".status.reason", "Why it is as it is.", wide=True),
        ],
    )


def _search_plan() -> dict[str, Any]:
    spec = build_schema(SearchPlanSpec)
    spec[_VALIDATIONS] = cel_rules.plan_rules()
    status = build_schema(SearchPlanStatus)
    chains = status["properties"]["chains"]
    # Of one writer: else the server would keep track of who owns each field of each chain.
    chains["x-kubernetes-list-type"] = "atomic"
    return _definition(
        plural=SEARCH_PLANS,
        kind="SearchPlan",
        short_name="hsp",
        about="What the studies of one trainer share: the stage tree, and what was launched for"
        " it. Made by the operator.",
        spec=spec,
        status=status,
        columns=[
            _column("Studies", ".status.studiesCount", "That share it.", type="integer"),
            _column("Stages", ".status.stagesSummary", "Done/running/pending."),
            _column(
                "Merge rate", ".status.mergeRate", "Steps requested / once merged.", type="number"
            ),
            _AGE,
            _column("Entrypoint", ".spec.entrypoint", "Of the trainer.", wide=True),
        ],
    )


def _algorithm() -> Schema:
    """The settings of all algorithms side by side; rules say which belongs to which."""
    names = sorted(AlgorithmSettings.NAMED)
    properties: Schema = {}
    about: dict[str, dict[str, list[str]]] = {}
    for name in names:
        for field, schema in build_schema(AlgorithmSettings.NAMED[name])["properties"].items():
            text = schema.pop("description", "")
            about.setdefault(field, {}).setdefault(text, []).append(name)
            if properties.setdefault(field, schema) != schema and field != "name":
                raise ValueError(f"algorithms disagree on the setting {field}")
    for field, texts in about.items():
        if field != "name":
            text = " ".join(f"{', '.join(takers)}: {text}" for text, takers in texts.items())
            properties[field] = {"description": text, **properties[field]}
    properties["name"] = {
        "description": "Which algorithm; its settings stand beside it.",
        "type": "string",
        "enum": names,
    }
    _replace(properties, "settings", _sampler_settings())
    properties["factors"]["items"][_VALIDATIONS] = cel_rules.factor_rules()
    return {
        "type": "object",
        "required": ["name"],
        "properties": properties,
        _VALIDATIONS: cel_rules.algorithm_rules(),
    }


def _sampler_settings() -> Schema:
    properties: Schema = {}
    for sampler, known in SAMPLER_SETTINGS.items():
        for name, kind in known.items():
            if isinstance(kind, Whole):
                schema: Schema = {"type": "integer", "minimum": kind.least, "maximum": kind.most}
            elif kind == "flag":
                schema = {"type": "boolean"}
            else:
                schema = {"type": "string", "enum": kind.split(" | ")}
            earlier = properties.get(name, {}).get("description")
            takers = f"{earlier}, {sampler}" if earlier else f"As Optuna has it, for {sampler}"
            properties[name] = {"description": takers, **schema}
    return {"type": "object", "properties": properties}


def _replace(properties: Schema, field: str, schema: Schema) -> None:
    """Another schema for a field, under the description that it has."""
    properties[field] = {"description": properties[field]["description"], **schema}


def _column(
    name: str, path: str, about: str, *, type: str = "string", wide: bool = False
) -> dict[str, Any]:
    column = {"name": name, "type": type, "jsonPath": path, "description": about}
    return {**column, "priority": 1} if wide else column


def _definition(
    *,
    plural: str,
    kind: str,
    short_name: str,
    about: str,
    spec: Schema,
    status: Schema,
    columns: list[dict[str, Any]],
    validations: list[cel_rules.Rule] | None = None,
) -> dict[str, Any]:
    conditions = status["properties"].get("conditions")
    if conditions is not None:
        conditions["x-kubernetes-list-type"] = "map"
        conditions["x-kubernetes-list-map-keys"] = ["type"]
    schema = {
        "description": about,
        "type": "object",
        "required": ["spec"],
        **({_VALIDATIONS: validations} if validations else {}),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "annotations": {ANNOTATION_FORMAT: str(CLUSTER_FORMAT)},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": ["hippo"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }
