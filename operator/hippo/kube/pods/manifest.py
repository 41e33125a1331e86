"""The pod of a chain, and the pods by which a study is tried: pure functions of what is wanted."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

from hippo.kube import names
from hippo.kube.manifests import owner
from hippo.kube.pods.template_merge import merge_pod
from hippo.kube.pods.template_validation import check_trainer
from hippo.kube.resources import Document
from hippo.kube.settings import THREADS, Settings
from hippo.model import InvalidSpec, Study
from hippo.model.study import TrainerSpec
from hippo.protocol.assignments import Assignment, Route, TrainerCall
from hippo.store.cache import BYTES_VARIABLE, FOLDER_VARIABLE

TEMPORARY = "/tmp"  # noqa: S108 - within a pod of its own, an emptyDir
ASSIGNMENT_FOLDER = "/etc/hippo"
CA_FOLDER = "/etc/hippo-ca"
CACHE_FOLDER = "/var/cache/hippo"
GRACE_MARGIN_SECONDS = 30
"""Beyond the worker's own grace: to write what was saved, and to report."""

MAX_POD_NAME = 63
MOST_ASKERS = 100
"""Studies that a pod's labels name: with more, API servers would refuse the pod for its size."""
MAX_ANNOTATION_BYTES = 256 * 1024
"""All annotations of an object together, as API servers limit them."""
_OTHER_ANNOTATIONS_BYTES = 16 * 1024  # of templates, webhooks and kubelets


def build_pods(
    study: Study, assignment: Assignment, *, plan: str, plan_uid: str, settings: Settings
) -> list[Document]:
    """The pod of a chain as it should be; and, if it has requests that nobody asked for, the same
    without, for a namespace whose LimitRange has others. Raises InvalidSpec.
    """
    bare = build_pod(study, assignment, plan=plan, plan_uid=plan_uid, settings=settings)
    full = copy.deepcopy(bare)
    _add_requests(full, study.spec.trainer, settings.default_requests)
    return [bare] if full == bare else [full, bare]


def _add_requests(pod: Document, trainer: TrainerSpec, defaults: Mapping[str, str]) -> None:
    """Where the study says nothing: a limit counts as a request of that size."""
    for container in pod["spec"]["containers"]:
        if container["name"] == names.TRAINER_CONTAINER:
            resources = container["resources"] = dict(container.get("resources") or {})
            given = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
            added = {
                name: str(trainer.threads) if quantity == THREADS else quantity
                for name, quantity in defaults.items()
                if name not in given
            }
            if added:
                resources["requests"] = {**(resources.get("requests") or {}), **added}


def build_pod(
    study: Study, assignment: Assignment, *, plan: str, plan_uid: str, settings: Settings
) -> Document:
    """The pod of a chain; ``study`` lends template and slot, ``plan`` names the SearchPlan.

    Raises InvalidSpec for a podTemplate that asks for what is not allowed.
    """
    trainer = study.spec.trainer
    check_trainer(trainer, study.namespace, settings.own_namespace, settings.allowance)
    environment = [
        {"name": name, "value": value} for name, value in sorted(settings.store_environment.items())
    ]
    environment.append({"name": "HOME", "value": TEMPORARY})
    mounts: list[Document] = [
        {"name": "hippo-assignment", "mountPath": ASSIGNMENT_FOLDER, "readOnly": True},
        {"name": "hippo-tmp", "mountPath": TEMPORARY},
    ]
    volumes: list[Document] = [
        {
            "name": "hippo-assignment",
            "downwardAPI": {
                "items": [
                    {
                        "path": "assignment.json",
                        "fieldRef": {
                            "fieldPath": f"metadata.annotations['{names.ANNOTATION_ASSIGNMENT}']"
                        },
                    }
                ]
            },
        },
        {"name": "hippo-tmp", "emptyDir": {}},
    ]
    if settings.store_ca_configmap:
        environment.append({"name": "AWS_CA_BUNDLE", "value": f"{CA_FOLDER}/ca.crt"})
        mounts.append({"name": "hippo-ca", "mountPath": CA_FOLDER, "readOnly": True})
        volumes.append({"name": "hippo-ca", "configMap": {"name": settings.store_ca_configmap}})
    if settings.cache_claim:
        folder = f"{CACHE_FOLDER}/{study.namespace}"  # on one volume for all, should there be one
        environment.append({"name": FOLDER_VARIABLE, "value": folder})
        if settings.cache_bytes is not None:
            environment.append({"name": BYTES_VARIABLE, "value": str(settings.cache_bytes)})
        mounts.append({"name": "hippo-cache", "mountPath": CACHE_FOLDER})
        claim = {"claimName": settings.cache_claim}
        volumes.append({"name": "hippo-cache", "persistentVolumeClaim": claim})
    base: Document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(plan, assignment.chain),
            "namespace": study.namespace,
            "labels": _pod_labels(study, assignment, plan),
            "annotations": {names.ANNOTATION_ASSIGNMENT: _write(assignment)},
            "ownerReferences": [owner("SearchPlan", plan, plan_uid, is_controller=True)],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": math.ceil(assignment.grace_seconds)
            + GRACE_MARGIN_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": names.TRAINER_CONTAINER,
                    "image": trainer.image,
                    "imagePullPolicy": settings.image_pull_policy,
                    "command": list(names.RUNNER),
                    "args": [
                        "--assignment",
                        f"{ASSIGNMENT_FOLDER}/assignment.json",
                        "--store",
                        settings.store,
                        "--plan",
                        f"{study.namespace}/{plan}",
                    ],
                    "env": environment,
                    "envFrom": [{"secretRef": {"name": names.STORE_SECRET}}],
                    "resources": dict(trainer.resources),
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }
    return merge_pod(base, dict(trainer.pod_template), settings.allowance)


def _write(assignment: Assignment) -> str:
    told = assignment.model_dump_json()
    size, most = len(told.encode()), MAX_ANNOTATION_BYTES - _OTHER_ANNOTATIONS_BYTES
    if size > most:
        raise InvalidSpec.at(
            "spec.space",
            f"a trial's hyper-parameters and trainer.config take {size} bytes for its pod, which"
            f" can be told {most}: write schedules with fewer pieces",
        )
    return told


def build_dry_runs(study: Study, settings: Settings) -> list[Document]:
    """Pods like those of the study, for the API server to judge before anything is launched: one of
    them must do.
    """
    trainer = study.spec.trainer
    assignment = Assignment(
        chain="check",
        signature="",
        trainer=TrainerCall(entrypoint=trainer.entrypoint),
        route=Route(hyperparameters={}, steps=1, stop_at=1),
        studies=(study.name,),
    )
    pods = build_pods(study, assignment, plan="check", plan_uid="check", settings=settings)
    for pod in pods:
        pod["metadata"]["name"] = f"hippo-check-{study.name}"[:MAX_POD_NAME].rstrip("-")
        del pod["metadata"]["ownerReferences"]
    return pods


def pod_name(plan: str, chain: str) -> str:
    """Derived from the chain, which is unique in its plan for ever: creating it twice is
    harmless.
    """
    return f"hippo-{plan}-{chain}"


def _pod_labels(study: Study, assignment: Assignment, plan: str) -> dict[str, str]:
    labels = {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_PLAN: plan,
        names.LABEL_CHAIN: assignment.chain,
        names.LABEL_STUDY: study.name,
    }
    for name in (study.name, *assignment.studies)[:MOST_ASKERS]:
        labels[f"{names.LABEL_ASKER_PREFIX}{name}"] = "true"
    return labels
