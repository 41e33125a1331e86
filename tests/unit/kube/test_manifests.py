"""The objects that the operator makes: pods that are trusted with little, and whose they are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hippo.kube.manifests import build_trial, event_name
from hippo.kube.pods.manifest import MOST_ASKERS, build_dry_runs, build_pod, build_pods, pod_name
from hippo.kube.settings import Settings, read_default_requests
from hippo.model import InvalidSpec, Study
from hippo.protocol.assignments import Assignment, Route, TrainerCall
from hippo.protocol.decisions import Decision
from tests.unit.kube.memory import NAMESPACE, parse, study_document

SETTINGS = Settings(
    store="s3://bucket/hippo",
    store_ca_configmap="ca",
    store_environment={"AWS_ENDPOINT_URL": "https://s3.example.org"},
)
CHAIN = Assignment(
    chain="r3-00001",
    signature="signature",
    trainer=TrainerCall(entrypoint="trainer:Trainer"),
    route=Route(hyperparameters={"lr": 0.1}, steps=4, stop_at=4),
    studies=("a", "b"),
    grace_seconds=60.5,
)


def study(**trainer: Any) -> Study:
    document = study_document("a")
    document["spec"]["trainer"] |= trainer
    return parse(document)


def pod(**trainer: Any) -> dict[str, Any]:
    return build_pod(study(**trainer), CHAIN, plan="plan", plan_uid="uid", settings=SETTINGS)


def check_restricted(made: dict[str, Any]) -> None:
    """What the restricted Pod Security standard asks for, and more: no identity of its own."""
    spec = made["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & spec.keys()
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in security
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    allowed = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected"}
    assert kinds <= allowed


def test_a_pod_is_restricted_whatever_its_template_adds() -> None:
    check_restricted(pod())
    check_restricted(build_dry_runs(study(), SETTINGS)[0])
    template = {
        "spec": {
            "initContainers": [{"name": "fetch", "image": "fetch:1"}],
            "containers": [{"name": "beside", "image": "beside:1"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        }
    }
    check_restricted(pod(podTemplate=template))


@pytest.mark.parametrize(
    "template",
    [
        {"hostNetwork": True},
        {"serviceAccountName": "operator"},
        {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
        {"containers": [{"name": "trainer", "securityContext": {"privileged": True}}]},
        {"initContainers": [{"name": "in", "securityContext": {"runAsUser": 0}}]},
    ],
)
def test_a_template_gets_no_pod_out_of_that(template: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match="podTemplate"):
        pod(podTemplate={"spec": template})


def test_a_pod_says_whose_it_is_and_what_it_is_to_do() -> None:
    made = pod()
    metadata, container = made["metadata"], made["spec"]["containers"][0]
    assert metadata["name"] == pod_name("plan", CHAIN.chain) == "hippo-plan-r3-00001"
    assert metadata["namespace"] == NAMESPACE
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("SearchPlan", "uid", True)
    asked = {f"study.hippo.dev/{name}": "true" for name in ("a", "b")}
    assert asked.items() <= metadata["labels"].items()
    assert metadata["labels"]["hippo.dev/study"] == "a"
    told = json.loads(metadata["annotations"]["hippo.dev/assignment"])
    assert Assignment.model_validate(told) == CHAIN
    assert container["args"][-1] == "research/plan"
    assert made["spec"]["terminationGracePeriodSeconds"] > CHAIN.grace_seconds


def test_credentials_come_from_the_namespaces_secret_alone() -> None:
    container = pod()["spec"]["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "hippo-store"}}]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["AWS_ENDPOINT_URL"] == "https://s3.example.org"
    assert not [name for name in environment if "SECRET" in name or "KEY" in name]


def test_pods_keep_checkpoints_in_the_namespaces_claim() -> None:
    settings = replace(SETTINGS, cache_claim="local", cache_bytes=1 << 40)
    made = build_pod(study(), CHAIN, plan="plan", plan_uid="uid", settings=settings)
    check_restricted(made)
    container = made["spec"]["containers"][0]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["HIPPO_CACHE_BYTES"] == "1099511627776"
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "hippo-cache"]
    assert environment["HIPPO_CACHE_DIR"] == f"{mount['mountPath']}/{made['metadata']['namespace']}"
    (volume,) = [v for v in made["spec"]["volumes"] if v["name"] == "hippo-cache"]
    assert volume["persistentVolumeClaim"] == {"claimName": "local"}
    assert "HIPPO_CACHE_DIR" not in json.dumps(pod())


@pytest.mark.slow
def test_what_no_api_server_takes_is_refused_by_name() -> None:
    """Labels of all who ask, and annotations of 256 kB in all."""
    many = CHAIN.model_copy(update={"studies": tuple(f"s{n}" for n in range(10_000))})
    made = build_pod(study(), many, plan="plan", plan_uid="uid", settings=SETTINGS)
    assert len(made["metadata"]["labels"]) == 4 + MOST_ASKERS
    assert "study.hippo.dev/a" in made["metadata"]["labels"]
    pieces = {"lr": {"piecewise": [[n, n / 7] for n in range(20_000)]}}
    route = CHAIN.route.model_copy(update={"hyperparameters": pieces})
    long = CHAIN.model_copy(update={"route": route})
    with pytest.raises(InvalidSpec, match=r"spec.space: .*: write schedules with fewer pieces"):
        build_pod(study(), long, plan="plan", plan_uid="uid", settings=SETTINGS)


def test_a_dry_run_is_of_no_plan_and_its_name_is_one() -> None:
    assert "ownerReferences" not in build_dry_runs(study(), SETTINGS)[0]["metadata"]
    for name in ("a" * 52, "a" * 50 + "-b"):
        made = build_dry_runs(parse(study_document(name)), SETTINGS)[0]["metadata"]["name"]
        assert len(made) <= 63
        assert made[-1].isalnum()


def test_a_trial_says_what_its_decisions_come_to() -> None:
    first = Decision(
        index=3, kind="suggest", trial=1, steps=2, hyperparameters={"lr": 0.1}, reason="drawn"
    )
    more = Decision(index=5, kind="promote", trial=1, steps=4, reason="among the best")
    stop = Decision(index=7, kind="stop", trial=1, steps=2, reason="the study ended")
    made = build_trial(study(), "uid", [first, more])
    assert made["metadata"]["name"] == "a-1"
    assert (made["spec"]["index"], made["spec"]["steps"]) == (1, 4)
    assert "stop" not in made["spec"]
    made = build_trial(study(), "uid", [first, more, stop])
    assert (made["spec"]["steps"], made["spec"]["stop"]) == (4, True)
    assert [entry["index"] for entry in made["spec"]["decisions"]] == [3, 5, 7]


def test_events_have_one_name_for_one_happening() -> None:
    involved = {"name": "a", "uid": "1"}
    assert event_name(involved, "Failed", "x") == event_name(dict(involved), "Failed", "x")
    others = {
        event_name(involved, "Failed", "y"),
        event_name(involved, "Other", "x"),
        event_name({"name": "a", "uid": "2"}, "Failed", "x"),
    }
    assert len(others | {event_name(involved, "Failed", "x")}) == 4


def requests(study: Study, **defaults: str) -> list[Any]:
    """Resources of the trainer's container, in each of the pods that may be tried."""
    settings = replace(SETTINGS, default_requests=defaults)
    made = build_pods(study, CHAIN, plan="plan", plan_uid="uid", settings=settings)
    return [pod["spec"]["containers"][0].get("resources") for pod in made]


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({}, {"requests": {"cpu": "1", "memory": "1Gi"}}),
        ({"threads": 4}, {"requests": {"cpu": "4", "memory": "1Gi"}}),
        (
            {"resources": {"requests": {"cpu": "250m"}}},
            {"requests": {"cpu": "250m", "memory": "1Gi"}},
        ),
        (
            {"resources": {"limits": {"memory": "512Mi", "nvidia.com/gpu": 1}}},
            {"limits": {"memory": "512Mi", "nvidia.com/gpu": 1}, "requests": {"cpu": "1"}},
        ),
        (
            {
                "podTemplate": {
                    "containers": [{"name": "trainer", "resources": {"limits": {"cpu": "500m"}}}]
                }
            },
            {"limits": {"cpu": "500m"}, "requests": {"memory": "1Gi"}},
        ),
    ],
)
def test_what_a_study_does_not_ask_for_has_defaults(trainer: Any, expected: Any) -> None:
    full, bare = requests(study(**trainer), cpu="threads", memory="1Gi")
    assert full == expected
    assert (bare or {}).get("requests", {}).keys() < expected["requests"].keys()


def test_a_study_that_asks_for_all_is_taken_at_its_word() -> None:
    asked = {"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}}
    assert requests(study(resources=asked), cpu="threads", memory="1Gi") == [asked]
    assert requests(study(resources=asked)) == [asked]


def test_others_than_the_trainer_have_no_defaults() -> None:
    template = {"containers": [{"name": "side", "image": "side:1"}]}
    settings = replace(SETTINGS, default_requests={"memory": "1Gi"})
    made, _ = build_dry_runs(study(podTemplate=template), settings)
    assert [c["name"] for c in made["spec"]["containers"] if c.get("resources")] == ["trainer"]


@pytest.mark.parametrize("text", ["memory", "=1Gi", "memory=", "memory=a lot", "memory=threads"])
def test_a_default_that_is_no_quantity_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^--default-request .*: must be NAME=QUANTITY, as in"):
        read_default_requests(["cpu=threads", "nvidia.com/gpu=1", text])
