"""The CRDs in a real API server: what ``kubectl apply`` takes, refuses, and says."""

from __future__ import annotations

import contextlib
import copy
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hippo.kube.crds.admission_policy import build_policies
from hippo.kube.status.models import BestTrial, Condition, StudyStatus, TrialCounts
from tests.cluster import Cluster
from tests.cluster.commands import CommandFailed

ROOT = Path(__file__).parents[2]

STUDY: dict[str, Any] = {
    "apiVersion": "hippo.dev/v1alpha1",
    "kind": "Study",
    "metadata": {"name": "digits"},
    "spec": {
        "objective": {"metric": "accuracy", "goal": "maximize"},
        "steps": 120,
        "space": {"lr": {"choices": [0.1, {"exponential": {"initial": 0.1, "gamma": 0.95}}]}},
        "algorithm": {"name": "grid"},
        "trainer": {"entrypoint": "trainer:DigitsTrainer"},
    },
}
TRIAL: dict[str, Any] = {
    "apiVersion": "hippo.dev/v1alpha1",
    "kind": "Trial",
    "metadata": {"name": "digits-0"},
    "spec": {"study": "digits", "hyperparameters": {"lr": 0.1}, "steps": 10},
}

COSINE = {"initial": 0.1, "final": 0, "steps": 10}
WARMUP = {"from": 0, "steps": 5, "to": 0.1}
UNIFORM = {"uniform": {"low": 0.1, "high": 0.2}}

# What is set in STUDY (fields by dots; ... removes), and what the refusal must say.
BAD: list[tuple[dict[str, Any], str]] = [
    ({"spec.steps": ...}, "spec.steps: Required"),
    ({"spec.steps": 0}, "spec.steps in body should be greater than or equal to 1"),
    ({"spec.steps": 1.5}, "spec.steps in body must be of type integer"),
    ({"spec.steps": "ten"}, "spec.steps in body must be of type integer"),
    ({"spec.steps": 10**13}, "spec.steps in body should be less than or equal to 1000000000000"),
    ({"spec.objective.goal": "best"}, 'spec.objective.goal: Unsupported value: "best"'),
    ({"spec.objective.metric": " "}, "spec.objective.metric in body should match"),
    ({"spec.objective.target": "high"}, "spec.objective.target in body must be of type number"),
    (
        {"spec.objective.testMetric": "accuracy"},
        "spec.objective.testMetric: Invalid value: must not be the metric that trials compete by",
    ),
    ({"spec.space": {}}, "spec.space in body should have at least 1 properties"),
    ({"spec.space": {"l-r": UNIFORM}}, "spec.space: Invalid value: names of hyper-parameters"),
    ({"spec.space": {"false": {"choices": [1]}}}, "spec.space: Invalid value: a name is true or"),
    ({"spec.space.lr": 0.1}, "spec.space.lr in body must be of type object"),
    ({"spec.space.lr": {"static": True}}, '"spec.space.lr" must validate one and only one'),
    ({"spec.space.lr.uniform": UNIFORM["uniform"]}, '"spec.space.lr" must validate one and only'),
    ({"spec.space.lr.choices": []}, "spec.space.lr.choices in body should have at least 1 items"),
    ({"spec.space.lr.static": 1}, "spec.space.lr.static in body must be of type boolean"),
    (
        {"spec.space.lr": {"uniform": {"low": 0.2, "high": 0.1}}},
        "spec.space[lr].uniform.low: Invalid value: low must be less than high",
    ),
    (
        {"spec.space.lr": {"uniform": {"low": 0, "high": 0.1, "log": True}}},
        "spec.space[lr].uniform.low: Invalid value: low must be greater than 0",
    ),
    ({"spec.space.lr": {"uniform": {"low": 0}}}, "spec.space.lr.uniform.high: Required"),
    (
        {"spec.space.lr": {"int": {"low": 0.5, "high": 3}}},
        "spec.space.lr.int.low in body must be of type integer",
    ),
    (
        {"spec.space.lr": {"int": {"low": 0, "high": 3, "step": 0}}},
        "spec.space.lr.int.step in body should be greater than or equal to 1",
    ),
    (
        {"spec.space.lr": {"int": {"low": 3, "high": 3}}},
        "spec.space[lr].int.low: Invalid value: low must be less than high",
    ),
    # Schedules, where nothing has a type.
    (
        {"spec.space.lr.choices": [0.1, {"cosin": COSINE}]},
        '"spec.space.lr.choices[1]" must validate at least one schema',
    ),
    (
        {"spec.space.lr.choices": [{"cosine": COSINE, "linear": COSINE}]},
        "spec.space.lr.choices[0]: Too many: 2: must have at most 1 item",
    ),
    (
        {"spec.space.lr.choices": [{"cosine": {**COSINE, "steps": 0}}]},
        "spec.space.lr.choices[0].cosine.steps in body should be greater than or equal to 1",
    ),
    (
        {"spec.space.lr.choices": [{"cosine": {"initial": 0.1, "steps": 5}}]},
        "spec.space.lr.choices[0].cosine.final: Required",
    ),
    (
        {"spec.space.lr.choices": [{"cosine": {**COSINE, "initial": "0.1"}}]},
        "spec.space.lr.choices[0].cosine.initial in body should match 'a number, not text$.'",
    ),
    (
        {"spec.space.lr.choices": [{"step": {"initial": 1, "gamma": 0.1, "every": 1.5}}]},
        "spec.space.lr.choices[0].step.every in body should be a multiple of 1",
    ),
    (
        {"spec.space.lr.choices": [{"polynomial": {**COSINE, "power": 101}}]},
        "spec.space.lr.choices[0].polynomial.power in body should be less than or equal to 100",
    ),
    (
        {"spec.space.lr.choices": [{"multistep": {"initial": 1, "gamma": 1, "milestones": [1.5]}}]},
        "spec.space.lr.choices[0].multistep.milestones[0] in body must be of type integer",
    ),
    (
        {"spec.space.lr.choices": [{"piecewise": []}]},
        "spec.space.lr.choices[0].piecewise in body should have at least 1 items",
    ),
    (
        {"spec.space.lr.choices": [{"piecewise": [[0, 1], [2]]}]},
        "spec.space.lr.choices[0].piecewise[1] in body should have at least 2 items",
    ),
    (
        {"spec.space.lr.choices": [{"piecewise": [[0, {"cosine": {**COSINE, "steps": 0}}]]}]},
        "spec.space.lr.choices[0].piecewise[0][1].cosine.steps in body should be greater",
    ),
    (
        {
            "spec.space.lr.choices": [
                {"warmup": {**WARMUP, "then": {"warmup": {**WARMUP, "then": {"cosin": COSINE}}}}}
            ]
        },
        '"spec.space.lr.choices[0].warmup.then.warmup.then" must validate at least one schema',
    ),
    (
        {"spec.space.lr.choices": [{"cosine": {**COSINE, "initial": {"uniform": {"low": 1}}}}]},
        "spec.space.lr.choices[0].cosine.initial.uniform.high: Required",
    ),
    (
        {"spec.space.lr.choices": [{"cosine": {**COSINE, "initial": {"unifrom": {"low": 1}}}}]},
        '"spec.space.lr.choices[0].cosine.initial" must validate at least one schema',
    ),
    # Algorithms.
    ({"spec.algorithm": {}}, "spec.algorithm.name: Required"),
    ({"spec.algorithm.name": "hyperopt"}, 'spec.algorithm.name: Unsupported value: "hyperopt"'),
    ({"spec.algorithm.eta": 3}, "spec.algorithm.eta: Invalid value: is a setting of asha,"),
    ({"spec.algorithm.name": "sha"}, "spec.algorithm: Invalid value: minSteps is missing"),
    (
        {"spec.algorithm": {"name": "sha", "minSteps": 1, "eta": 1}},
        "spec.algorithm.eta in body should be greater than or equal to 2",
    ),
    (
        {"spec.algorithm": {"name": "asha", "minSteps": 121}},
        "spec.algorithm.minSteps: Invalid value: must be at most spec.steps",
    ),
    (
        {"spec.algorithm": {"name": "median", "every": 120}},
        "spec.algorithm.every: Invalid value: must be less than spec.steps",
    ),
    (
        {"spec.algorithm": {"name": "median", "every": 1}, "spec.steps": 10**6},
        "spec.algorithm.every: Invalid value: must be greater, so that a trial is looked at",
    ),
    (
        {"spec.algorithm": {"name": "pbt", "population": 4, "interval": 10}, "spec.maxTrials": 9},
        "spec.maxTrials: Invalid value: must be left out",
    ),
    (
        {"spec.algorithm": {"name": "pbt", "population": 4, "interval": 9, "quantile": 0.6}},
        "spec.algorithm.quantile in body should be less than or equal to 0.5",
    ),
    (
        {"spec.algorithm": {"name": "pbt", "population": 4, "interval": 9, "factors": [0.5, 1]}},
        "spec.algorithm.factors[1]: Invalid value: 1: must not be 1",
    ),
    (
        {"spec.algorithm": {"name": "pbt", "population": 4, "interval": 9, "factors": [0]}},
        "spec.algorithm.factors[0] in body should be greater than 0",
    ),
    ({"spec.algorithm.name": "optuna"}, "spec.algorithm: Invalid value: sampler is missing"),
    (
        {"spec.algorithm": {"name": "optuna", "sampler": "tpe", "settings": {"popsize": 9}}},
        "spec.algorithm.settings.popsize: Invalid value: is a setting of cmaes only",
    ),
    (
        {"spec.algorithm": {"name": "random", "prefixFirst": {"late": 2}}},
        "spec.algorithm.prefixFirst.late in body should be less than or equal to 1",
    ),
    ({"spec.space.lr": UNIFORM}, "spec.space: Invalid value: grid cannot enumerate"),
    (
        {"spec.space.lr": UNIFORM, "spec.algorithm.name": "random"},
        "spec: Invalid value: maxTrials is missing",
    ),
    # Everything else.
    ({"spec.maxTrials": 0}, "spec.maxTrials in body should be greater than or equal to 1"),
    ({"spec.maxFailedTrials": -1}, "spec.maxFailedTrials in body should be greater than or equal"),
    ({"spec.parallelism": 0}, "spec.parallelism in body should be greater than or equal to 1"),
    ({"spec.priority": 0.5}, "spec.priority in body must be of type integer"),
    ({"spec.suspend": "no"}, "spec.suspend in body must be of type boolean"),
    ({"spec.retries": -1}, "spec.retries in body should be greater than or equal to 0"),
    ({"spec.replicateBest": 0}, "spec.replicateBest in body should be greater than or equal to 1"),
    ({"spec.budget.workerHours": 0}, "spec.budget.workerHours in body should be greater than 0"),
    ({"spec.budget.wallTime": "soon"}, "spec.budget.wallTime in body should match"),
    (
        {"spec.budget.wallTime": "0s"},
        'spec.budget.wallTime: Invalid value: "0s": must be longer than',
    ),
    ({"spec.checkpoints.retain": "some"}, 'spec.checkpoints.retain: Unsupported value: "some"'),
    ({"spec.checkpoints.ttl": 10}, "spec.checkpoints.ttl in body must be of type string"),
    ({"spec.trainer": ...}, "spec.trainer: Required"),
    ({"spec.trainer.entrypoint": "trainer.py"}, "spec.trainer.entrypoint in body should match"),
    ({"spec.trainer.config": [1]}, "spec.trainer.config in body must be of type object"),
    ({"spec.trainer.threads": 0}, "spec.trainer.threads in body should be greater than or equal"),
    ({"spec.trainer.exactness": "no"}, 'spec.trainer.exactness: Unsupported value: "no"'),
    ({"metadata.name": "d" * 53}, "metadata.name must have at most 52 characters"),
    ({"metadata.name": "digits.1"}, "metadata.name must consist of lower-case letters"),
]

# What the optional policy refuses beyond that.
BAD_BY_POLICY: list[tuple[dict[str, Any], str]] = [
    ({"spec.space.lr.choices": [1, 2, 1.0]}, "spec.space.lr: has the same choice twice"),
    ({"spec.space.lr.static": True}, "spec.space.lr: has a schedule among its choices"),
    (
        {
            "spec.space.lr.choices": [
                {"multistep": {"initial": 1, "gamma": 1, "milestones": [3, 2]}}
            ]
        },
        "spec.space.lr: has milestones that do not ascend",
    ),
    (
        {"spec.space.wd.choices": [{"piecewise": [[1, 0.1], [2, 0.2]]}]},
        "spec.space.wd: has a piecewise whose first entry does not begin at 0",
    ),
    (
        {"spec.trainer.podTemplate": {"spec": {"hostNetwork": True}}},
        "spec.trainer.podTemplate: no pod of a study may have hostNetwork",
    ),
    (
        {"spec.trainer.podTemplate": {"serviceAccountName": "admin"}},
        "spec.trainer.podTemplate: no pod of a study may have serviceAccountName",
    ),
]

# Fields that nobody knows: the first one found is told.
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"spec.paralelism": 2}, 'unknown field "spec.paralelism"'),
    ({"spec.trainer.epochs": 2}, 'unknown field "spec.trainer.epochs"'),
    ({"spec.space.lr.unifrom": {}}, 'unknown field "spec.space.lr.unifrom"'),
    ({"spec.algorithm.minstep": 1}, 'unknown field "spec.algorithm.minstep"'),
    (
        {"spec.space.lr.choices": [0.1, {"cosine": {**COSINE, "stpes": 3}}]},
        'unknown field "spec.space.lr.choices[1].cosine.stpes"',
    ),
]

# What may not change in a running study, and what the refusal says.
FIXED: list[tuple[dict[str, Any], str]] = [
    ({"spec.steps": 121}, "spec.steps: Invalid value: may not change"),
    ({"spec.objective.goal": "minimize"}, "spec.objective: Invalid value: may not change"),
    ({"spec.space.lr.choices": [0.1]}, "spec.space: Invalid value: may not change"),
    (
        {"spec.space.lr.choices": [0.1, {"exponential": {"initial": 0.1, "gamma": 0.96}}]},
        "spec.space: Invalid value: may not change",
    ),
    ({"spec.space.lr.choices": [0.2]}, "spec.space: Invalid value: may not change"),
    ({"spec.space.wd": {"choices": [1]}}, "spec.space: Invalid value: may not change"),
    ({"spec.algorithm.name": "random"}, "spec.algorithm: Invalid value: may not change"),
    ({"spec.retries": 4}, "spec.retries: Invalid value: may not change"),
    ({"spec.replicates": 1}, "spec.replicates: Invalid value: may not change"),
    ({"spec.trainer.config": {"b": 1}}, "spec.trainer: Invalid value: may not change"),
    ({"spec.trainer.config": {"a": 2}}, "spec.trainer: Invalid value: may not change"),
    ({"spec.checkpoints": {"retain": "all"}}, "spec.checkpoints: Invalid value: may not change"),
    ({"spec.maxTrials": 1}, "spec.maxTrials: Invalid value: may only grow"),
]

# One after the other on TRIAL.
TRIAL_EDITS: list[tuple[dict[str, Any], str | None]] = [
    ({"spec.steps": 20}, None),
    ({"spec.steps": 19}, "spec.steps: Invalid value: may only grow"),
    ({"spec.hyperparameters.lr": 0.2}, "spec.hyperparameters: Invalid value: may not change"),
    ({"spec.hyperparameters.wd": 0.2}, "spec.hyperparameters: Invalid value: may not change"),
    ({"spec.study": "other"}, "spec.study: Invalid value: may not change"),
    ({"spec.index": 3, "spec.parent": 1, "spec.seed": 7}, None),
    ({"spec.index": 4}, "spec.index: Invalid value: may not change"),
    ({"spec.parent": 2}, "spec.parent: Invalid value: may not change"),
    ({"spec.seed": ...}, "spec.seed: Invalid value: may not change"),
    ({"spec.stop": True}, None),
    ({"spec.stop": False}, "spec.stop: Invalid value: may not be taken back"),
    ({"spec.stop": ...}, "spec.stop: Invalid value: may not be taken back"),
    (
        {"spec.decisions": [{"index": 0, "kind": "suggest", "steps": 20, "reason": "first"}]},
        None,
    ),
    (
        {"spec.decisions": [{"index": 0, "kind": "suggest", "steps": 30, "reason": "first"}]},
        "spec.decisions[0]: Invalid value: a decision that was made may not change",
    ),
    ({"spec.decisions": ...}, "spec.decisions: Invalid value: may only grow"),
]


class Kubectl:
    """Applies objects within one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def __call__(self, *words: str, input: str | None = None) -> str:
        return self._cluster.kubectl("-n", self.namespace, *words, input=input)

    def apply(self, *documents: dict[str, Any]) -> str:
        return self("apply", "-f", "-", input="\n---\n".join(map(json.dumps, documents)))

    def refusal(self, *documents: dict[str, Any]) -> str:
        """What is said of documents that are to be refused."""
        with pytest.raises(CommandFailed) as caught:
            self.apply(*documents)
        return str(caught.value)

    def set_status(self, study: str, **fields: Any) -> None:
        """As the operator does."""
        patch = json.dumps({"status": fields})
        self("patch", "study", study, "--subresource=status", "--type=merge", "-p", patch)

    def replace(self, *documents: dict[str, Any]) -> str:
        return self("replace", "-f", "-", input="\n---\n".join(map(json.dumps, documents)))


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster, crds: None) -> Iterator[Kubectl]:
    """In a namespace of its own, with the CRDs that are committed."""
    namespace = f"crds-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    yield Kubectl(cluster, namespace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def changed(base: dict[str, Any], changes: dict[str, Any], name: str | None = None) -> Any:
    """The object with some fields set (or, to ``...``, removed); fields by dots."""
    document = copy.deepcopy(base)
    if name is not None:
        document["metadata"]["name"] = name
    for path, value in changes.items():
        place = document
        *outer, last = path.split(".")
        for part in outer:
            place = place.setdefault(part, {})
        if value is ...:
            place.pop(last, None)
        else:
            place[last] = value
    return document


def test_the_crds_are_accepted_whole(kubectl: Kubectl) -> None:
    for plural in ("studies", "trials", "searchplans"):
        crd = json.loads(kubectl("get", "crd", f"{plural}.hippo.dev", "-o", "json"))
        conditions = {item["type"]: item["status"] for item in crd["status"]["conditions"]}
        assert conditions["NamesAccepted"] == "True"
        assert conditions.get("NonStructuralSchema", "False") == "False"


def test_all_examples_are_accepted(kubectl: Kubectl) -> None:
    files = sorted((ROOT / "examples").glob("*/*.yaml"))
    assert len(files) > 10
    words = (word for file in files for word in ("-f", str(file)))
    said = kubectl("apply", "--dry-run=server", *words)  # an operator that runs would train them
    assert said.count("created") == len(files)


@pytest.mark.parametrize("begin", range(0, len(BAD), 12))
def test_bad_studies_are_refused_by_path(kubectl: Kubectl, begin: int) -> None:
    batch = BAD[begin : begin + 12]
    said = kubectl.refusal(*(changed(STUDY, changes) for changes, _ in batch))
    missing = [(changes, wanted) for changes, wanted in batch if wanted not in said]
    assert not missing, said
    assert kubectl("get", "studies", "-o", "name") == ""


def test_unknown_fields_are_refused_by_path(kubectl: Kubectl) -> None:
    said = kubectl.refusal(*(changed(STUDY, changes) for changes, _ in UNKNOWN))
    assert [wanted for _, wanted in UNKNOWN if wanted not in said] == [], said


def test_what_may_change_in_a_study(kubectl: Kubectl) -> None:
    study = changed(STUDY, {"spec.maxTrials": 2, "spec.trainer.config": {"a": 1}}, "edits")
    kubectl.apply(study)
    kubectl.set_status("edits", stepsTrained=1)
    with pytest.raises(CommandFailed) as caught:
        kubectl.replace(*(changed(study, changes) for changes, _ in FIXED))
    said = str(caught.value)
    assert [wanted for _, wanted in FIXED if wanted not in said] == [], said
    free = {
        "spec.parallelism": 2,
        "spec.priority": 1,
        "spec.suspend": True,
        "spec.budget": {"workerHours": 1.5, "wallTime": "1h30m"},
        "spec.maxFailedTrials": 0,
        "spec.maxTrials": 3,
        "spec.retries": 3,  # the default, written
    }
    study = changed(study, free)
    assert "configured" in kubectl.apply(study)
    study = changed(study, {"spec.maxTrials": ..., "spec.budget": ..., "spec.parallelism": ...})
    assert "configured" in kubectl.apply(study)
    assert "may only grow" in kubectl.refusal(changed(study, {"spec.maxTrials": 9}))


@pytest.mark.parametrize(
    "status", [None, {"phase": "Failed"}, {"stepsTrained": 0, "stepsReached": 0}]
)
def test_a_trainer_may_be_mended_before_anything_was_trained(
    kubectl: Kubectl, status: dict[str, Any] | None
) -> None:
    study = changed(STUDY, {"spec.trainer.image": "digits:1"}, f"mended-{uuid.uuid4().hex[:6]}")
    name = study["metadata"]["name"]
    kubectl.apply(study)
    if status is not None:
        kubectl.set_status(name, **status)
    study = changed(study, {"spec.trainer.image": "digits:2", "spec.trainer.config": {"a": 1}})
    assert "configured" in kubectl.apply(study)
    for trained in ({"stepsTrained": 1}, {"stepsTrained": 0, "stepsReached": 4}):
        kubectl.set_status(name, **trained)
        said = kubectl.refusal(changed(study, {"spec.trainer.image": "digits:3"}))
        assert "spec.trainer: Invalid value: may not change once anything was trained" in said
        kubectl("patch", "study", name, "--type=merge", "-p", '{"spec": {"priority": 1}}')


def test_what_may_change_in_a_trial(kubectl: Kubectl) -> None:
    kubectl.apply(trial := TRIAL)
    for changes, refused in TRIAL_EDITS:
        if refused is None:
            kubectl.replace(trial := changed(trial, changes))
            continue
        with pytest.raises(CommandFailed) as caught:
            kubectl.replace(changed(trial, changes))
        assert refused in str(caught.value)


@pytest.fixture
def policy(kubectl: Kubectl) -> Iterator[None]:
    """For studies of this namespace only; in force once the server has taken it up."""
    documents = build_policies()
    name = f"test-{kubectl.namespace}"
    for document in documents:
        document["metadata"]["name"] = name
    selector = {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}
    documents[1]["spec"] |= {
        "policyName": name,
        "matchResources": {"namespaceSelector": selector},
    }
    kubectl.apply(*documents)
    deadline = time.monotonic() + 20
    probe = json.dumps(changed(STUDY, BAD_BY_POLICY[0][0]))
    with contextlib.suppress(CommandFailed):
        while time.monotonic() < deadline:
            kubectl("create", "--dry-run=server", "-f", "-", input=probe)
            time.sleep(0.3)
        pytest.fail("the policy is not in force after 20 s")
    yield
    for document in documents:
        kubectl("delete", document["kind"], name, "--wait=false")


@pytest.mark.usefixtures("policy")
def test_the_policy_refuses_what_rules_cannot_see(kubectl: Kubectl) -> None:
    said = kubectl.refusal(*(changed(STUDY, changes) for changes, _ in BAD_BY_POLICY))
    assert [wanted for _, wanted in BAD_BY_POLICY if wanted not in said] == [], said
    files = sorted((ROOT / "examples").glob("*/*.yaml"))
    kubectl("create", "--dry-run=server", *(word for file in files for word in ("-f", str(file))))
    kubectl.apply(trial := changed(TRIAL, {}, "renamed"))
    with pytest.raises(CommandFailed, match=r"spec.hyperparameters: may not change"):
        kubectl.replace(changed(trial, {"spec.hyperparameters": {"wd": 0.1}}))


def test_values_of_every_kind_are_kept_as_they_are(kubectl: Kubectl) -> None:
    """Numbers as doubles are: what is integral comes back as an integer."""
    choices = [1.0, 10, 0.5, 1e-5, "adam", True, [0.9, 0.999], ["a", [True, 2.0]]]
    spec = {
        "spec.space": {"x": {"choices": choices}, "y": {"uniform": {"low": 0, "high": 1.0}}},
        "spec.algorithm.name": "random",
        "spec.maxTrials": 10.0,
        "spec.trainer.config": {"note": None, "layers": [{"width": 8.5, "deep": {"er": 2.0}}]},
        "spec.trainer.podTemplate": {"spec": {"nodeSelector": {"a": "b"}}},
        "spec.budget": None,
    }
    kubectl("create", "-f", "-", input=json.dumps(changed(STUDY, spec, "kinds")))
    stored = json.loads(kubectl("get", "study", "kinds", "-o", "json"))["spec"]
    assert stored["space"]["x"]["choices"] == choices
    assert json.dumps(stored["space"]["x"]["choices"][0]) == "1"
    assert stored["trainer"]["config"] == spec["spec.trainer.config"]
    assert stored["trainer"]["podTemplate"] == spec["spec.trainer.podTemplate"]
    assert stored["maxTrials"] == 10


def test_statuses_are_kept_and_shown(kubectl: Kubectl) -> None:
    kubectl.apply(changed(STUDY, {}, "shown"))
    status = StudyStatus(
        observed_generation=1,
        phase="Running",
        plan="plan-1",
        progress="12/48",
        underway="8 running, 5 paused",
        trials=TrialCounts(total=48, completed=12, pending=8, running=8, paused=5),
        best=BestTrial(
            trial="shown-3",
            value=0.26755434274673462,
            shown="0.267554",
            step=120,
            hyperparameters={"lr": {"cosine": COSINE}},
            metrics={"accuracy": 0.5, "loss": None},
        ),
        merge_rate=2.5,
        worker_hours=0.25,
        saved="63%",
        started_at="2026-01-31T12:00:00Z",
        conditions=[
            Condition(
                type="Accepted",
                status="True",
                reason="Valid",
                last_transition_time="2026-01-31T12:00:00.123456+00:00",
            )
        ],
    )
    # Not a merge: there null means to remove.
    patch = [{"op": "add", "path": "/status", "value": status.model_dump(mode="json")}]
    kubectl(
        "patch", "study", "shown", "--subresource=status", "--type=json", "-p", json.dumps(patch)
    )
    stored = json.loads(kubectl("get", "study", "shown", "-o", "json"))["status"]
    assert StudyStatus.model_validate(stored) == status
    heading, row = kubectl("get", "studies", "shown").splitlines()
    columns = "NAME PHASE TRIALS UNDER WAY BEST MERGE RATE WORKER-HOURS SAVED AGE"
    assert heading.split() == columns.split()
    assert row.split()[:3] == ["shown", "Running", "12/48"]
    assert "  8 running, 5 paused  " in row
    assert row.split()[-5:-1] == ["0.267554", "2.5", "0.25", "63%"]


def test_kubectl_explains_every_field(kubectl: Kubectl) -> None:
    said = kubectl("explain", "study.spec.space")
    for field in ("choices", "uniform", "int", "static"):
        assert f"  {field}\t<" in said
    said = kubectl("explain", "study.spec.space.choices.warmup.then.cosine")
    assert "From initial to final in half a cosine" in said
    assert "Steps on the way." in said
    said = " ".join(kubectl("explain", "study.spec.parallelism").split())
    assert "If absent, the operator's default: 4" in said


def test_short_names_and_a_category(kubectl: Kubectl) -> None:
    for name in ("hst", "htr", "hsp", "hippo"):
        kubectl("get", name)


def test_examples_are_valid_yaml_for_kubectl_too() -> None:
    """The files are read by the rules of YAML 1.1 there, by those of 1.2 here."""
    for file in (ROOT / "examples").glob("*/*.yaml"):
        text = file.read_text()
        old, new = YAML(typ="safe", pure=True), YAML(typ="safe", pure=True)
        old.version = (1, 1)
        assert list(old.load_all(text)) == list(new.load_all(text)), file
