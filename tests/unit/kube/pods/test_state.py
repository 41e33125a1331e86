"""Statuses as kubelets, schedulers and controllers write them, and what is read from them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.kube.pods import diagnosis
from hippo.kube.pods.state import GONE, Cause, PodPhase, observe, outcome
from hippo.protocol.reports import Outcome
from stage_runner.termination import EXIT_CODES

CREATED, SCHEDULED = "2026-11-25T10:00:00Z", "2026-11-25T10:00:01Z"
STARTED, FINISHED = "2026-11-25T10:00:05Z", "2026-11-25T10:03:05Z"
CREATED_AT = 1795600800.0

RUNNING = {"running": {"startedAt": STARTED}}


def ended(code: int, reason: str = "Error", message: str | None = None) -> dict[str, Any]:
    state: dict[str, Any] = {
        "exitCode": code,
        "reason": reason,
        "startedAt": STARTED,
        "finishedAt": FINISHED,
        "containerID": "containerd://5d6d",
    }
    return {"terminated": state if message is None else {**state, "message": message}}


STACK = """Current thread 0x00007f29b6ffd6c0 (most recent call first):
  File "/usr/lib/python3.11/random.py", line 378 in choice
  File "/app/trainer.py", line 31 in step
  File "/usr/local/lib/python3.11/site-packages/stage_runner/chain.py", line 230 in _train_step
  File "/usr/local/lib/python3.11/site-packages/stage_runner/__main__.py", line 116 in <module>
  File "<frozen runpy>", line 88 in _run_code
"""


def untimed(code: int, reason: str = "Error") -> dict[str, Any]:
    """Of a container whose end nobody saw."""
    state = ended(code, reason)["terminated"]
    return {"terminated": state | {"startedAt": None, "finishedAt": "1970-01-01T00:00:00Z"}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, Any]:
    found = {"type": kind, "status": status, "lastTransitionTime": SCHEDULED}
    return (
        found | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
    )


def disrupted(reason: str, message: str = "") -> dict[str, Any]:
    return condition("DisruptionTarget", "True", reason, message)


def pod(
    phase: str,
    state: dict[str, Any] | None = None,
    *conditions: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    others: list[dict[str, Any]] | None = None,
    init: list[dict[str, Any]] | None = None,
    **status: Any,
) -> dict[str, Any]:
    found: dict[str, Any] = {"phase": phase, **status}
    scheduled = (
        []
        if any(c["type"] == "PodScheduled" for c in conditions)
        else [condition("PodScheduled", "True")]
    )
    found["conditions"] = [*scheduled, *conditions]
    if state is not None:
        found["containerStatuses"] = [
            *(others or []),
            {
                "name": "trainer",
                "image": "registry.example/digits:1",
                "imageID": "registry.example/digits@sha256:ab12" if "waiting" not in state else "",
                "state": state,
                "lastState": {},
                "restartCount": 0,
            },
        ]
    if init is not None:
        found["initContainerStatuses"] = init
    limits = {"resources": {"limits": {"memory": "2Gi"}}}
    return {
        "metadata": {
            "name": "digits-1-3",
            "namespace": "research",
            "creationTimestamp": CREATED,
            **(metadata or {}),
        },
        "spec": {
            "nodeName": "node-7",
            "containers": [{"name": "trainer", **limits}],
            **(spec or {}),
        },
        "status": found,
    }


def unscheduled(message: str) -> dict[str, Any]:
    return pod("Pending", None, condition("PodScheduled", "False", "Unschedulable", message))


NOT_FOUND = (
    'Back-off pulling image "registry.example/digits:1": ErrImagePull: failed to pull and unpack'
    ' image "registry.example/digits:1": not found'
)
LOW = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. "

P, R, S, F = PodPhase.PENDING, PodPhase.RUNNING, PodPhase.SUCCEEDED, PodPhase.FAILED

CASES: dict[str, tuple[dict[str, Any], PodPhase, Cause, str]] = {
    # name: (pod, phase, cause, words of the message)
    "just created": (
        pod("Pending", None, condition("PodScheduled", "False", "SchedulerError", "timed out")),
        P,
        Cause.UNSCHEDULABLE,
        "timed out",
    ),
    "scheduled": (pod("Pending"), P, Cause.NONE, ""),
    "creating": (pod("Pending", waiting("ContainerCreating")), P, Cause.NONE, ""),
    "running": (pod("Running", RUNNING), R, Cause.NONE, ""),
    "no room": (
        pod(
            "Pending",
            None,
            condition(
                "PodScheduled",
                "False",
                "Unschedulable",
                "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are"
                " available: 3 No preemption victims found for incoming pod.",
            ),
        ),
        P,
        Cause.NO_ROOM,
        "no node takes the pod: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu: wait for",
    ),
    "no room, as Kubernetes 1.36 says it": (
        pod(
            "Pending",
            None,
            condition(
                "PodScheduled",
                "False",
                "Unschedulable",
                "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to"
                " deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for"
                " scheduling.",
            ),
        ),
        P,
        Cause.NO_ROOM,
        "no node takes the pod: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu: wait for",
    ),
    "no such node": (
        pod(
            "Pending",
            None,
            condition(
                "PodScheduled",
                "False",
                "Unschedulable",
                "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
            ),
        ),
        P,
        Cause.UNSCHEDULABLE,
        "check nodeSelector",
    ),
    "no such claim": (
        pod(
            "Pending",
            None,
            condition(
                "PodScheduled",
                "False",
                "Unschedulable",
                '0/1 nodes are available: persistentvolumeclaim "digits" not found. not found',
            ),
        ),
        P,
        Cause.CONFIG,
        "the PersistentVolumeClaim digits is missing in namespace research",
    ),
    "gated": (
        pod(
            "Pending",
            None,
            condition("PodScheduled", "False", "SchedulingGated", "Scheduling is blocked"),
            spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
        ),
        P,
        Cause.QUEUED,
        "held by kueue.x-k8s.io/admission: it begins once whoever set the gate lets it go",
    ),
    "gated by Kueue": (
        pod(
            "Pending",
            None,
            condition("PodScheduled", "False", "SchedulingGated", "Scheduling is blocked"),
            metadata={"labels": {"kueue.x-k8s.io/queue-name": "team-a"}},
            spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]},
        ),
        P,
        Cause.QUEUED,
        "waits in Kueue's queue team-a: it begins once the queue has quota for it (kubectl get"
        " -n research localqueue team-a, workloads)",
    ),
    "cordoned": (
        unscheduled("0/2 nodes are available: 2 node(s) were unschedulable."),
        P,
        Cause.UNSCHEDULABLE,
        "2 node(s) were unschedulable: nodes are cordoned: wait until their admin is done",
    ),
    "cordoned, and the other one full": (
        unscheduled("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable."),
        P,
        Cause.NO_ROOM,
        "or lower spec.parallelism; nodes are cordoned: wait",
    ),
    "an untolerated taint": (
        unscheduled("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}."),
        P,
        Cause.UNSCHEDULABLE,
        "{gpu: true}: if the study belongs on nodes with that taint, tolerate it in",
    ),
    "a node that is not ready": (
        unscheduled(
            "0/1 nodes are available: 1 node(s) had untolerated taint"
            " {node.kubernetes.io/not-ready: }."
        ),
        P,
        Cause.UNSCHEDULABLE,
        "not-ready: }: nodes are not ready: their admin has to see to them (kubectl get nodes)",
    ),
    "a node under pressure": (
        unscheduled(
            "0/1 nodes are available: 1 node(s) had untolerated taint"
            " {node.kubernetes.io/disk-pressure: }."
        ),
        P,
        Cause.UNSCHEDULABLE,
        "nodes run short of what is named, and take pods again once they have recovered",
    ),
    "too many pods": (
        unscheduled("0/1 nodes are available: 1 Too many pods."),
        P,
        Cause.NO_ROOM,
        "wait for room, ask for less",
    ),
    "spread too evenly": (
        unscheduled(
            "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints."
        ),
        P,
        Cause.UNSCHEDULABLE,
        "check affinity and topologySpreadConstraints in spec.trainer.podTemplate",
    ),
    "a volume elsewhere": (
        unscheduled("0/1 nodes are available: 1 node(s) had volume node affinity conflict."),
        P,
        Cause.UNSCHEDULABLE,
        "check the volumes in spec.trainer.podTemplate and their claims (kubectl describe pvc)",
    ),
    "a claim that nothing binds": (
        unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        P,
        Cause.UNSCHEDULABLE,
        "check the volumes in spec.trainer.podTemplate and their claims (kubectl describe pvc)",
    ),
    "no nodes": (
        unscheduled("no nodes available to schedule pods"),
        P,
        Cause.UNSCHEDULABLE,
        "the cluster has no node: wait for one, or ask its admin",
    ),
    "image missing": (
        pod("Pending", waiting("ImagePullBackOff", NOT_FOUND)),
        P,
        Cause.IMAGE_PULL,
        "image registry.example/digits:1 cannot be pulled: Back-off pulling image",
    ),
    "image never pulled": (
        pod("Pending", waiting("ErrImageNeverPull", "Container image is not present")),
        P,
        Cause.IMAGE_PULL,
        "not present: check spec.trainer.image and imagePullSecrets in spec.trainer.podTemplate",
    ),
    "image name": (
        pod("Pending", waiting("InvalidImageName", 'couldn\'t parse image name "A:B:C"')),
        P,
        Cause.IMAGE_PULL,
        "couldn't parse",
    ),
    "store secret missing": (
        pod("Pending", waiting("CreateContainerConfigError", 'secret "hippo-store" not found')),
        P,
        Cause.CONFIG,
        "the Secret hippo-store is missing in namespace research: its admin makes it",
    ),
    "store secret lacks a key": (
        pod(
            "Pending",
            waiting(
                "CreateContainerConfigError",
                "couldn't find key AWS_ACCESS_KEY_ID in Secret research/hippo-store",
            ),
        ),
        P,
        Cause.CONFIG,
        "the Secret hippo-store in namespace research has no key AWS_ACCESS_KEY_ID",
    ),
    "certificate missing": (
        pod(
            "Pending",
            waiting("CreateContainerConfigError", 'configmap "hippo-store-ca" not found'),
        ),
        P,
        Cause.CONFIG,
        "as ca.crt",
    ),
    "another secret missing": (
        pod("Pending", waiting("CreateContainerConfigError", 'secret "token" not found')),
        P,
        Cause.CONFIG,
        "create it, or correct spec.trainer.podTemplate",
    ),
    "root": (
        pod(
            "Pending",
            waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root (pod: digits-1-3)",
            ),
        ),
        P,
        Cause.CONFIG,
        "USER 1000",
    ),
    "cannot be created": (
        pod("Pending", waiting("CreateContainerError", "context deadline exceeded")),
        P,
        Cause.CONFIG,
        "container trainer cannot be made: context deadline exceeded",
    ),
    "image of an init container": (
        pod(
            "Pending",
            waiting("PodInitializing"),
            init=[{"name": "fetch", "image": "f:1", "state": waiting("ErrImagePull", "denied")}],
        ),
        P,
        Cause.IMAGE_PULL,
        "check the image of container fetch",
    ),
    "sidecar ends again and again": (
        pod(
            "Pending",
            waiting("PodInitializing"),
            init=[{"name": "proxy", "state": waiting("CrashLoopBackOff", "back-off 10s")}],
        ),
        P,
        Cause.CONFIG,
        "kubectl logs -n research digits-1-3 -c proxy",
    ),
    "a sidecar's image is missing": (
        pod(
            "Pending",
            RUNNING,
            others=[{"name": "side", "image": "s:1", "state": waiting("ErrImagePull")}],
        ),
        R,
        Cause.NONE,
        "",
    ),
    "succeeded": (pod("Succeeded", ended(0, "Completed")), S, Cause.NONE, ""),
    "a sidecar goes on": (
        pod("Running", ended(0, "Completed"), others=[{"name": "side", "state": RUNNING}]),
        S,
        Cause.NONE,
        "",
    ),
    "failed beside a sidecar": (
        pod("Running", ended(1), others=[{"name": "side", "state": RUNNING}]),
        F,
        Cause.TRAINER_ERROR,
        "the trainer ended with exit status 1: see kubectl logs -n research digits-1-3 -c trainer",
    ),
    "last words": (
        pod("Failed", ended(1, message="Traceback:\n  File x\nValueError: no\n")),
        F,
        Cause.TRAINER_ERROR,
        "exit status 1: ValueError: no: see",
    ),
    "crashed": (pod("Failed", ended(139)), F, Cause.TRAINER_ERROR, "crashed (SIGSEGV)"),
    "crashed at a known place": (
        pod("Failed", ended(139, message=f"Fatal Python error: Segmentation fault\n\n{STACK}")),
        F,
        Cause.TRAINER_ERROR,
        "the trainer crashed (SIGSEGV): trainer.py:31, in step(): see kubectl logs",
    ),
    "hung with Python's lock": (
        pod("Failed", ended(1, message=f"Timeout (0:01:06)!\n{STACK}")),
        F,
        Cause.TRAINER_ERROR,
        "trainer.stepTimeout, in code that holds Python's lock: trainer.py:31, in step(): see",
    ),
    "hung, and the beginning cut off": (
        pod("Failed", ended(1, message=STACK[40:])),
        F,
        Cause.TRAINER_ERROR,
        "trainer.stepTimeout, in code that holds Python's lock: trainer.py:31, in step(): see",
    ),
    "killed": (pod("Failed", ended(137)), F, Cause.UNKNOWN, "killed (SIGKILL)"),
    "out of memory": (
        pod("Failed", ended(137, "OOMKilled")),
        F,
        Cause.OUT_OF_MEMORY,
        "out of memory (limit 2Gi): raise spec.trainer.resources.limits.memory or use a smaller",
    ),
    "out of memory while leaving": (
        pod("Failed", ended(137, "OOMKilled"), disrupted("EvictionByEvictionAPI")),
        F,
        Cause.OUT_OF_MEMORY,
        "out of memory",
    ),
    "store": (pod("Failed", ended(74)), F, Cause.STORE, "Secret hippo-store in namespace research"),
    "evicted": (
        pod(
            "Failed",
            ended(137),
            disrupted("TerminationByKubelet", LOW),
            reason="Evicted",
            message=LOW,
        ),
        F,
        Cause.EVICTED,
        "evicted from node node-7: The node was low on resource: memory.",
    ),
    "evicted before it began": (
        pod("Failed", reason="Evicted", message="Pod was rejected: node had DiskPressure"),
        F,
        Cause.EVICTED,
        "DiskPressure",
    ),
    "too much on disk": (
        pod(
            "Failed",
            ended(137),
            reason="Evicted",
            message='Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". ',
        ),
        F,
        Cause.OUT_OF_DISK,
        "out of disk space: Usage of EmptyDir",
    ),
    "preempted": (
        pod(
            "Failed",
            ended(143),
            disrupted(
                "PreemptionByScheduler",
                "default-scheduler: preempting to accommodate a higher priority pod",
            ),
        ),
        F,
        Cause.PREEMPTED,
        "preempted for a pod of higher priority (kubectl get events names it: -n research"
        " --field-selector reason=Preempted,involvedObject.name=digits-1-3)"
        " (default-scheduler: preempting",
    ),
    "preempted by Kueue": (
        pod(
            "Failed",
            ended(143),
            condition(
                "TerminationTarget",
                "True",
                "WorkloadEvictedDueToPreempted",
                "Preempted to accommodate a workload (UID: 1, JobUID: 2) due to prioritization in"
                " the ClusterQueue",
            ),
            metadata={"deletionTimestamp": FINISHED},
        ),
        F,
        Cause.PREEMPTED,
        "told to leave by Kueue: Preempted to accommodate a workload (UID: 1, JobUID: 2) due to",
    ),
    "preempted, still there": (
        pod(
            "Running",
            RUNNING,
            disrupted("PreemptionByScheduler"),
            metadata={"deletionTimestamp": FINISHED},
        ),
        R,
        Cause.PREEMPTED,
        "higher priority",
    ),
    "drained": (
        pod("Failed", ended(1), disrupted("EvictionByEvictionAPI", "Eviction API: evicting")),
        F,
        Cause.PREEMPTED,
        "drained",
    ),
    "tainted": (
        pod("Failed", ended(137), disrupted("DeletionByTaintManager")),
        F,
        Cause.PREEMPTED,
        "tainted",
    ),
    "collected": (
        pod("Failed", RUNNING, disrupted("DeletionByPodGC", "PodGC: node no longer exists")),
        F,
        Cause.NODE_LOST,
        "its node is gone",
    ),
    "shut down": (
        pod(
            "Failed",
            ended(143),
            disrupted("TerminationByKubelet"),
            reason="Terminated",
            message="Pod was terminated in response to imminent node shutdown.",
        ),
        F,
        Cause.PREEMPTED,
        "ended by its node",
    ),
    "shut down, without a condition": (
        pod("Failed", ended(137), reason="NodeShutdown", message="Pod was terminated"),
        F,
        Cause.PREEMPTED,
        "node node-7 ended the pod",
    ),
    "a disruption that did not come": (
        pod("Failed", ended(1), condition("DisruptionTarget", "False", "PreemptionByScheduler")),
        F,
        Cause.TRAINER_ERROR,
        "exit status 1",
    ),
    "deleted": (
        pod("Failed", ended(137), metadata={"deletionTimestamp": FINISHED}),
        F,
        Cause.PREEMPTED,
        "the pod was deleted",
    ),
    "deleted while it waits": (
        pod("Pending", waiting("ContainerCreating"), metadata={"deletionTimestamp": FINISHED}),
        P,
        Cause.PREEMPTED,
        "the pod was deleted",
    ),
    "told to leave by somebody": (pod("Failed", ended(143)), F, Cause.PREEMPTED, "SIGTERM"),
    "node lost": (
        pod("Failed", ended(137, "ContainerStatusUnknown", "The container could not be located")),
        F,
        Cause.NODE_LOST,
        "node node-7 lost the pod",
    ),
    "node restarted, as containerd tells it": (
        pod("Failed", ended(255, "Unknown")),
        F,
        Cause.NODE_LOST,
        "node node-7 lost the pod, as when it is restarted: its work goes on",
    ),
    "node restarted, and no times are known": (
        pod("Failed", untimed(255, "Unknown")),
        F,
        Cause.NODE_LOST,
        "lost the pod",
    ),
    "runtime restarted, under the common reason": (
        pod("Failed", untimed(255)),
        F,
        Cause.NODE_LOST,
        "lost the pod",
    ),
    "runtime restarted, as CRI-O tells it": (
        pod("Failed", untimed(-1)),
        F,
        Cause.NODE_LOST,
        "lost the pod",
    ),
    "node restarted during an init container": (
        pod(
            "Failed",
            waiting("PodInitializing"),
            init=[{"name": "fetch", "state": ended(255, "Unknown")}],
        ),
        F,
        Cause.NODE_LOST,
        "lost the pod",
    ),
    "node restarted, and its devices are not there yet": (
        pod(
            "Failed",
            ended(255, "Error"),
            reason="UnexpectedAdmissionError",
            message="Allocate failed due to no healthy devices present",
        ),
        F,
        Cause.REJECTED,
        "node node-7 did not take the pod: Allocate failed",
    ),
    "node without an answer for long": (
        pod("Failed", ended(1), reason="NodeLost", message="Node node-7 which was running pod"),
        F,
        Cause.NODE_LOST,
        "node node-7 does not answer",
    ),
    "ended with 255 by itself": (
        pod("Failed", ended(255)),
        F,
        Cause.TRAINER_ERROR,
        "the trainer ended with exit status 255",
    ),
    "node silent": (pod("Unknown", RUNNING), R, Cause.NODE_LOST, "does not answer"),
    "deadline": (
        pod(
            "Failed",
            ended(143),
            reason="DeadlineExceeded",
            message="Pod was active on the node longer than the specified deadline",
        ),
        F,
        Cause.DEADLINE,
        "activeDeadlineSeconds",
    ),
    "no room after all": (
        pod(
            "Failed",
            reason="OutOfcpu",
            message="Pod was rejected: Node didn't have enough resource: cpu, requested: 1",
        ),
        F,
        Cause.REJECTED,
        "node node-7 did not take the pod: Pod was rejected",
    ),
    "never taken": (
        pod("Failed", reason="SysctlForbidden", message='forbidden sysctl: "kernel.msgmax"'),
        F,
        Cause.CONFIG,
        "change spec.trainer.podTemplate",
    ),
    "no such command": (
        pod(
            "Failed", ended(128, "StartError", 'exec: "pyton": executable file not found in $PATH')
        ),
        F,
        Cause.CONFIG,
        "could not be started: exec: ",
    ),
    "init container failed": (
        pod(
            "Failed",
            waiting("PodInitializing"),
            init=[{"name": "ok", "state": ended(0)}, {"name": "fetch", "state": ended(4)}],
        ),
        F,
        Cause.INIT_ERROR,
        "init container fetch ended with exit status 4: see kubectl logs",
    ),
    "failed without a word": (pod("Failed"), F, Cause.UNKNOWN, "see its events"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read(name: str) -> None:
    given_pod, phase, cause, words = CASES[name]
    state = observe(given_pod)
    assert (state.phase, state.cause) == (phase, cause)
    assert words in state.message
    assert bool(state.message) == (cause is not Cause.NONE)
    assert state.message.isprintable()


def test_times_and_places() -> None:
    state = observe(pod("Failed", ended(1), metadata={"deletionTimestamp": FINISHED}))
    assert state.created_at == CREATED_AT
    assert state.scheduled_at == CREATED_AT + 1
    assert state.started_at == CREATED_AT + 5
    assert state.finished_at == state.gone_by == CREATED_AT + 185
    assert state.node == "node-7"
    assert state.image_id == "registry.example/digits@sha256:ab12"
    assert state.exit_code == 1


def test_what_is_not_known() -> None:
    state = observe(pod("Pending", waiting("ContainerCreating"), spec={"nodeName": ""}))
    assert state.started_at is state.finished_at is state.gone_by is None
    assert state.node is state.image_id is state.exit_code is None
    assert observe(pod("Pending", None, condition("PodScheduled", "False"))).scheduled_at is None
    never = ended(128, "StartError")
    never["terminated"]["startedAt"] = "1970-01-01T00:00:00Z"
    assert observe(pod("Failed", never)).started_at is None


FREE = ("evicted", "preempted", "drained", "tainted", "collected", "deleted", "node lost",
        "shut down", "shut down, without a condition", "told to leave by somebody",
        "no room after all", *(name for name in CASES if "restarted" in name),
        "node without an answer for long")  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_what_is_not_the_trainers_fault_is_not_charged(name: str) -> None:
    assert outcome(observe(CASES[name][0])) is Outcome.PREEMPTED


@pytest.mark.parametrize(
    "name",
    [
        "out of memory",
        "last words",
        "ended with 255 by itself",
        "killed",
        "crashed",
        "deadline",
        "too much on disk",
        "init container failed",
        "no such command",
        "failed without a word",
        "succeeded",
    ],
)
def test_what_may_be_is_charged(name: str) -> None:
    assert outcome(observe(CASES[name][0])) is Outcome.LOST


def test_other_outcomes() -> None:
    assert outcome(observe(CASES["store"][0])) is Outcome.STORE
    assert outcome(GONE) is Outcome.PREEMPTED
    assert GONE.is_finished


def test_exit_statuses_are_those_of_the_runner() -> None:
    assert EXIT_CODES[Outcome.STORE] == diagnosis.EXIT_STORE
    state = observe(pod("Failed", ended(EXIT_CODES[Outcome.PREEMPTED])))
    assert outcome(state) is Outcome.PREEMPTED


def test_a_pod_fails_by_its_deadline_before_its_trainer_has_left() -> None:
    late = {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than..."}
    state = observe(pod("Failed", RUNNING, spec={"terminationGracePeriodSeconds": 630}, **late))
    assert (state.phase, state.cause, state.saving_seconds) == (F, Cause.DEADLINE, 630.0)
    assert observe(pod("Failed", RUNNING, **late)).saving_seconds == 30.0
    assert observe(pod("Failed", ended(143), **late)).saving_seconds == 0.0
    assert observe(pod("Running", RUNNING)).saving_seconds == 0.0


def test_other_containers_hold_a_pod_whose_trainer_is_over() -> None:
    at_work = {"name": "proxy", "state": RUNNING}
    over = {"name": "proxy", "state": ended(0)}
    held = pod("Running", ended(0), others=[at_work])
    assert observe(held).lingers
    assert observe(held).phase is S
    assert not observe(pod("Running", RUNNING, others=[at_work])).lingers
    assert not observe(pod("Running", ended(0), others=[over])).lingers
    assert not observe(pod("Running", ended(0), init=[at_work])).lingers  # ends with the trainer
    assert not observe(pod("Running", ended(0))).lingers  # the pod's end is yet to be told


def test_a_long_message_is_cut() -> None:
    state = observe(pod("Pending", waiting("CreateContainerError", "very\nlong " * 1000)))
    assert len(state.message) < 500


def damage(value: Any, data: st.DataObject) -> Any:
    """The same with something else at a place found by chance."""
    inner: list[Any] = []
    if isinstance(value, dict | list):
        inner = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not inner or data.draw(st.integers(0, 6)) == 0:
        return data.draw(st.sampled_from([None, True, 7, 1.5, "word", [], {}, [None], {"a": 1}]))
    place = data.draw(st.sampled_from(inner))
    if isinstance(value, dict):
        return {**value, place: damage(value[place], data)}
    return [damage(item, data) if index == place else item for index, item in enumerate(value)]


@pytest.mark.slow
@settings(max_examples=500)
@given(st.sampled_from(sorted(CASES)), st.data())
def test_a_damaged_status_raises_nothing(name: str, data: st.DataObject) -> None:
    damaged = damage(CASES[name][0], data)
    if isinstance(damaged, dict):
        assert outcome(observe(damaged))
