"""What may go wrong around a study, on a real node: each is told apart, with what to do about it,
and the study ends or goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.site import Document, Site
from tests.minio_server import find_free_port

LRS = [0.1, 0.2]
GOOD_THEN_RAISE: list[Any] = ["good", {"piecewise": [[0, "good"], [6, "raise"]]}]
UNTIL_TOLD = "import signal, sys; signal.signal(15, lambda *_: sys.exit()); signal.pause()"


def with_pod(
    study: Document,
    *,
    spec: Document | None = None,
    container: Document | None = None,
    others: list[Document] | None = None,
    metadata: Document | None = None,
) -> Document:
    """The study with more in its podTemplate."""
    template = study["spec"]["trainer"]["podTemplate"]
    template["spec"].update(spec or {})
    template["spec"]["containers"][0].update(container or {})
    template["spec"]["containers"] += others or []
    if metadata:
        template["metadata"] = metadata
    return study


def bare(study: Document, **trainer: Any) -> Document:
    """The study with other fields of its trainer; None: without."""
    for name, value in trainer.items():
        if value is None:
            study["spec"]["trainer"].pop(name, None)
        else:
            study["spec"]["trainer"][name] = value
    return study


# -- studies that cannot be taken ------------------------------------------------------------------


def nested(depth: int, inner: Any) -> Any:
    """A schedule in a schedule, and so on."""
    for _ in range(depth):
        inner = {"piecewise": [[0, 0.1], [6, inner]]}
    return inner


def test_what_cannot_be_taken_says_where_and_why(site: Site) -> None:
    def study(name: str, lr: Any = 0.1) -> Document:
        return site.study(name, {"lr": [lr, 0.5]})

    template = "spec.trainer.podTemplate.spec"
    alone = "run without a service account and its token"
    rejected: dict[str, tuple[Document, str, list[str]]] = {
        "host": (
            with_pod(study("host"), spec={"hostNetwork": True, "serviceAccountName": "admin"}),
            "InvalidSpec",
            [
                f"{template}.hostNetwork: pods of studies have no part in the node's namespaces",
                f"{template}.serviceAccountName: pods of studies {alone}: remove it",
            ],
        ),
        "root": (
            with_pod(study("root"), container={"securityContext": {"runAsUser": 0}}),
            "InvalidSpec",
            [f"{template}.containers[0].securityContext.runAsUser: must be the number of a user"],
        ),
        "typo": (
            with_pod(study("typo"), spec={"priorityClassName": "no-such-class"}),
            "PodRefused",
            ["no PriorityClass with name no-such-class was found; check spec.trainer.podTemplate"],
        ),
        "disk": (
            with_pod(
                study("disk"),
                spec={"volumes": [{"name": "disk", "iscsi": {
                    "targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com.example:x", "lun": 0,
                }}], "containers": [{}]},
            ),
            "InvalidSpec",
            [f"{template}.volumes[0].iscsi: is none of the volumes that pods of studies may have"],
        ),
        "deputy": (
            with_pod(
                study("deputy"),
                metadata={
                    "labels": {"app.kubernetes.io/name": "hippo"},
                    "annotations": {"iam.amazonaws.com/role": "admin"},
                },
                spec={"priorityClassName": "system-node-critical", "fieldToCome": True},
            ),
            "InvalidSpec",
            [
                "metadata.labels[app.kubernetes.io/name]: belongs to what is installed",
                "by stagePods.allow.annotations: [iam.amazonaws.com/role] in the chart's values",
                "by stagePods.allow.priorityClasses: [system-node-critical] in the chart's values",
                f"{template}.fieldToCome: is not among the fields that a study may set",
            ],
        ),
        "imageless": (
            bare(study("imageless"), image=None),
            "InvalidSpec",
            ["spec.trainer.image: is missing: name the image that holds the trainer"],
        ),
        "deep": (
            study("deep", nested(4, {"cosine": {"initial": 0.1, "final": 0.0}})),
            "InvalidSpec",
            ["spec.space.lr.choices[0].piecewise[1][1].piecewise[1][1].piecewise[1][1]"
             ".piecewise[1][1].cosine"],
        ),
    }  # fmt: skip
    site.start_operator("--allow", "priorityClasses=no-such-class")
    site.apply(*(document for document, _, _ in rejected.values()))
    for name, (_, reason, words) in rejected.items():
        status = site.wait_for(name, "Rejected")
        accepted = site.condition(name, "Accepted")
        assert accepted is not None
        assert (accepted["status"], accepted["reason"]) == ("False", reason), name
        for text in words:
            assert text in accepted["message"], name
        assert status["message"] == accepted["message"]
        site.wait_until(lambda: site.told(name, reason), f"an Event on {name}")  # noqa: B023
        assert site.told(name, reason) == accepted["message"]
    table = site.kubectl("get", "studies", "-o", "wide")
    assert table.count("Rejected") == len(rejected)
    assert site.list("searchplans") == site.list("pods") == site.list("trials") == []


# -- trainers that fail ----------------------------------------------------------------------------


def test_trainers_that_fail(site: Site) -> None:
    site.start_operator()
    site.apply(
        site.study("raises", {"mode": GOOD_THEN_RAISE}, retries=1),
        site.study(
            "hopeless",
            {"mode": ["raise"], "lr": LRS},
            retries=0,
            maxFailedTrials=1,
            config={"of": "hopeless"},
        ),
        site.study(
            "hungry",
            {"mode": ["memory"]},
            retries=1,
            trainer={
                "config": {"of": "hungry"},
                "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "192Mi"}},
            },
        ),
        site.study("absent", {"lr": [0.1]}, trainer={"entrypoint": "chaned:Chained"}),
        site.study(
            "mistaken",
            {"lr": LRS},
            objective={"metric": "accuracy", "goal": "maximize"},
            config={"of": "mistaken"},
        ),
    )
    ended = {
        name: site.wait_for(name, "Succeeded", "Failed")
        for name in ("raises", "hopeless", "hungry", "absent", "mistaken")
    }
    assert {name: status["phase"] for name, status in ended.items()} == {
        "raises": "Succeeded",
        "hopeless": "Failed",
        "hungry": "Failed",
        "absent": "Failed",
        "mistaken": "Failed",
    }

    # Only the trial that needs it has failed; what it shares with the other was trained once.
    site.check_results("raises")
    good, failed = site.trials("raises")
    assert (good["status"]["phase"], good["status"]["step"]) == ("Completed", 12)
    assert failed["status"]["phase"] == "Failed"
    assert "ValueError: told to fail (chained.py:" in failed["status"]["reason"]
    site.wait_for_event("raises", "Notice", "ValueError: told to fail")
    site.wait_for_event("raises", "Notice", "retry 1 of 1")
    assert ended["raises"]["trials"]["failed"] == 1

    table = site.kubectl("get", "trials", "-o", "wide").splitlines()
    (row,) = [line for line in table if line.startswith("raises-1 ")]
    assert "Failed" in row
    assert "ValueError: told to fail" in row

    assert "2 stages failed, more than maxFailedTrials (1)" in ended["hopeless"]["message"]
    assert "ValueError: told to fail" in ended["hopeless"]["message"]
    failure = site.condition("hopeless", "Failed")
    assert failure is not None
    assert (failure["status"], failure["message"]) == ("True", ended["hopeless"]["message"])
    site.wait_until(lambda: site.told("hopeless", "Failed"), "an Event on hopeless")
    assert site.told("hopeless", "Failed") == ended["hopeless"]["message"]

    memory = "out of memory (limit 192Mi): raise spec.trainer.resources.limits.memory"
    assert memory in ended["hungry"]["message"]
    again = f"{memory} or use a smaller batch; retry 1 of 1"
    site.wait_for_event("hungry", "ChainFailed", again)
    assert "out of memory" not in site.told("hungry", "Notice"), "one Event for one failure"
    assert len(site.pods("hungry")) == 2
    (hungry,) = site.trials("hungry")
    assert memory in hungry["status"]["reason"]

    told = "chaned:Chained: no module named 'chaned' below /workspace; did you mean 'chained'?"
    assert told in ended["absent"]["message"]
    assert len(site.pods("absent")) == 1  # it is not tried again
    assert site.told("absent", "Notice").count("\n") == 0
    assert "accuracy" in ended["mistaken"]["message"]
    assert "score" in ended["mistaken"]["message"]

    check_commands(site)


def check_commands(site: Site) -> None:
    """What users see of studies with failures, from outside of the cluster."""

    def have_ended() -> bool:
        """A worker reports its end before its kubelet does."""
        pods = [*site.pods("raises"), *site.pods("hungry")]
        return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods)

    site.wait_until(have_ended, "pods of studies that have ended, end")
    for name in ("raises", "hungry"):
        for pod in site.pods(name):
            log = site.kubectl("logs", pod["metadata"]["name"])
            assert log or name == "hungry"
    logs = site.hippo("logs", "raises", "-n", site.namespace)
    assert "Traceback" in logs
    assert "ValueError: told to fail" in logs
    memory = site.hippo("logs", "hungry", "-n", site.namespace)
    assert "failed: out of memory (limit 192Mi)" in memory
    place = ("--store", site.url, "--namespace", site.namespace)
    results = json.loads(site.hippo("results", "raises", *place, "-o", "json"))
    assert [trial["phase"] for trial in results["trials"]] == ["Completed", "Failed"]
    assert "ValueError: told to fail" in site.hippo("results", "raises", *place)
    tree = json.loads(site.hippo("tree", "raises", *place, "-o", "json"))
    assert sorted(stage["state"] for stage in tree["stages"]) == ["Done", "Done", "Failed"]
    assert "1 failed" in site.hippo("tree", "raises", *place)


# -- pods that do not begin ------------------------------------------------------------------------


def test_pods_that_do_not_begin(site: Site) -> None:
    secret = site.get("secret", "hippo-store")
    site.kubectl("delete", "secret", "hippo-store")
    site.start_operator(HIPPO_S3_PATIENCE="2")
    crowd = {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": {"hippo.dev/study": "crowd"}},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }
    site.apply(
        site.study("secretless", {"lr": [0.1]}),
        site.study("imaginary", {"lr": LRS}, trainer={"image": "localhost/hippo/no-such-image:1"}),
        site.study(
            "greedy",
            {"lr": LRS},
            trainer={"config": {"of": "greedy"}, "resources": {"limits": {"nvidia.com/gpu": 99}}},
        ),
    )
    begun = "WaitingForPods"
    missing = site.wait_for_condition("secretless", "Progressing", "False", begun)
    assert missing.startswith(
        f"the Secret hippo-store is missing in namespace {site.namespace}: its admin makes it"
    )
    pull = site.wait_for_condition("imaginary", "Progressing", "False", begun)
    assert "image localhost/hippo/no-such-image:1 cannot be pulled: " in pull
    assert "check spec.trainer.image and imagePullSecrets in spec.trainer.podTemplate" in pull
    room = site.wait_for_condition("greedy", "Progressing", "False", begun)
    assert "no node takes the pod: " in room
    assert "Insufficient nvidia.com/gpu" in room
    assert "ask for less in spec.trainer.resources" in room
    assert "(2 pods wait)" in room
    for name, message in (("secretless", missing), ("greedy", room)):
        assert site.status(name)["phase"] == "Running"
        site.wait_for_event(name, begun, message.partition(" (2 pods")[0])
    site.wait_for_event("imaginary", begun, "cannot be pulled")

    # Wrong credentials: pods will tell. With the right ones, below, the study goes on by itself.
    data = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing at all"}
    wrong = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hippo-store"}}
    site.apply({**wrong, "stringData": data})

    # Deleted while they wait, they leave nothing behind.
    plans = [site.plan_name(name) for name in ("imaginary", "greedy")]
    site.kubectl("delete", "study", "imaginary", "greedy")
    site.wait_until(
        lambda: not site.pods("imaginary") + site.pods("greedy") + site.trials("greedy"),
        "pods and Trials of deleted studies are gone",
    )
    site.wait_until(
        lambda: not {plan["metadata"]["name"] for plan in site.list("searchplans")} & set(plans),
        "plans of deleted studies are gone",
    )

    told = site.wait_for_event(
        "secretless", "ChainFailed", "the store could not be read or written: "
    )
    assert f"check the store and the Secret hippo-store in namespace {site.namespace}" in told
    message = site.wait_for_condition("secretless", "Progressing", "False", "StoreUnavailable")
    assert "InvalidAccessKeyId" in message
    site.apply({**wrong, "data": secret["data"]})
    # Where some pods run, a study progresses, whoever waits.
    site.apply(
        with_pod(
            site.study("crowd", {"lr": LRS}, config={"sleep": 0.2}),
            spec={"affinity": {"podAntiAffinity": crowd}},
        )
    )

    def states() -> list[str]:
        return sorted(pod["status"]["phase"] for pod in site.pods("crowd"))

    site.wait_until(lambda: states() == ["Pending", "Running"], "one pod runs and one waits")
    time.sleep(1.0)
    progressing = site.condition("crowd", "Progressing")
    if states() == ["Pending", "Running"]:
        assert progressing is not None
        assert (progressing["status"], progressing["reason"]) == ("True", "Running")
    for name in ("secretless", "crowd"):
        assert site.wait_for(name, "Succeeded", "Failed")["phase"] == "Succeeded"
        site.check_results(name)


# -- pods that are sent away -----------------------------------------------------------------------


def test_pods_that_are_sent_away_cost_no_step_and_no_retry(site: Site) -> None:
    site.start_operator()
    site.apply(
        site.study("moved", {"lr": [0.1, 0.2, 0.3]}, retries=0, steps=20, config={"sleep": 0.3})
    )

    def running() -> list[str]:
        return [
            pod["metadata"]["name"]
            for pod in site.pods("moved")
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    site.wait_until(lambda: len(running()) == 3, "three pods run")
    deleted, forced, evicted = sorted(running())
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": evicted}}
    path = f"/api/v1/namespaces/{site.namespace}/pods/{evicted}/eviction"
    site.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    for name in (deleted, forced):
        site.wait_until(lambda: "training begins" in site.kubectl("logs", name), "it has begun")  # noqa: B023
    site.kubectl("delete", "pod", deleted, "--wait=false")
    site.kubectl("delete", "pod", forced, "--grace-period=0", "--force", "--wait=false")
    status = site.wait_for("moved", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", status["message"]
    site.check_results("moved")
    plan = site.get("searchplan", status["plan"])["status"]
    assert site.count_trained(status["plan"]) == plan["stepsUnique"] == 60
    told = site.wait_for_event("moved", "ChainPreempted", times=3).splitlines()
    assert len(told) == 3
    goes_on = "its work goes on from what was saved"
    assert sum(f"the pod was deleted: {goes_on}" in line for line in told) == 2
    assert sum("evicted through the API" in line and goes_on in line for line in told) == 1
    assert site.told("moved", "ChainFailed") == ""


# -- podTemplate, deadlines and quotas -------------------------------------------------------------


@pytest.fixture
def priority_class(site: Site) -> Iterator[str]:
    site.kubectl("create", "priorityclass", site.namespace, "--value=1")
    yield site.namespace
    site.kubectl("delete", "priorityclass", site.namespace)


def test_templates_deadlines_and_quotas(site: Site, priority_class: str) -> None:
    allowed = (f"priorityClasses={priority_class}", "annotations=example.com/*")
    allowed += ("tolerations=example.com/spot",)
    site.start_operator(*(word for one in allowed for word in ("--allow", one)))
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    site.apply({**quota, "spec": {"hard": {"pods": "0"}}})
    sidecar = {
        "name": "sidecar",
        "image": site.cluster.trainer_image,
        "command": ["python3", "-c", UNTIL_TOLD],
    }
    beside = {**sidecar, "name": "beside"}
    tolerations = [{"key": "example.com/spot", "operator": "Exists", "effect": "NoSchedule"}]
    metadata = {
        "labels": {"kueue.x-k8s.io/queue-name": "research"},
        "annotations": {"example.com/note": "as it is"},
    }
    site.apply(
        with_pod(
            site.study("dressed", {"lr": [0.1]}),
            metadata=metadata,
            spec={
                "schedulerName": "default-scheduler",
                "priorityClassName": priority_class,
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": tolerations,
                "initContainers": [{**sidecar, "restartPolicy": "Always"}],
            },
        ),
        with_pod(site.study("escorted", {"lr": [0.2]}), others=[beside]),
        with_pod(
            site.study("hasty", {"lr": [0.3]}, steps=40, config={"sleep": 0.4}),
            spec={"activeDeadlineSeconds": 10},
        ),
    )
    for name in ("dressed", "escorted"):
        message = site.wait_for_condition(name, "Progressing", "False", "WaitingForPods")
        assert "exceeded quota: few, requested: pods=1, used: pods=0, limited: pods=0" in message
        assert "let the namespace's admin raise the ResourceQuota" in message
        site.wait_for_event(name, "WaitingForPods", "exceeded quota")
    assert site.list("pods") == []
    site.patch("resourcequota", "few", {"hard": {"pods": "3"}})
    assert site.wait_for("dressed", "Succeeded", "Failed")["phase"] == "Succeeded"
    (pod,) = site.pods("dressed")
    assert metadata["labels"].items() <= pod["metadata"]["labels"].items()
    assert metadata["annotations"].items() <= pod["metadata"]["annotations"].items()
    assert pod["spec"]["schedulerName"] == "default-scheduler"
    assert (pod["spec"]["priorityClassName"], pod["spec"]["priority"]) == (priority_class, 1)
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert tolerations[0] in pod["spec"]["tolerations"]
    assert site.wait_for("escorted", "Succeeded", "Failed")["phase"] == "Succeeded"
    site.wait_until(
        lambda: not site.pods("escorted"), "a pod does not stay for the sake of another container"
    )
    assert site.wait_for("hasty", "Succeeded", "Failed")["phase"] == "Succeeded"
    site.check_results("hasty")
    overdue = "the pod ran longer than its activeDeadlineSeconds: raise or remove it"
    site.wait_for_event("hasty", "ChainPreempted", overdue)


# -- the store -------------------------------------------------------------------------------------


def test_a_store_out_of_reach(site: Site) -> None:
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    site.start_operator(AWS_ENDPOINT_URL=nowhere, HIPPO_S3_PATIENCE="1")
    site.apply(site.study("remote", {"lr": [0.1]}))
    message = site.wait_for_condition("remote", "Progressing", "False", "StoreUnavailable")
    assert nowhere in message
    status = site.status("remote")
    assert (status["phase"], status["message"]) == ("Pending", message)
    site.wait_until(lambda: site.told("remote", "StoreUnavailable"), "an Event on remote")
    assert site.list("pods") == []
    site.stop_operator()
    site.start_operator()
    status = site.wait_for("remote", "Succeeded", "Failed")
    assert (status["phase"], status["message"]) == ("Succeeded", "all trials have ended")
    site.check_results("remote")
