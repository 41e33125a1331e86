"""Fields of containers that a study may set, and what tells the items of a pod's lists apart."""

from __future__ import annotations

from typing import Final

from hippo.kube.pods.template_kinds import (
    ABSOLUTE,
    COUNT,
    FLAG,
    PORT,
    QUANTITIES,
    QUANTITY,
    RELATIVE,
    TEXT,
    TEXTS,
    WHOLE,
    Fields,
    Kind,
    ListOf,
    Never,
    one_of,
    only,
)
from hippo.kube.pods.template_security import CONTAINER_SECURITY, NOT_THE_NODES

MERGE_KEYS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    # (what holds the list, field) -> what tells its items apart: the patchMergeKey of Kubernetes'
    # types and, where one key is not enough, the other keys of the list's map. Other lists, such as
    # tolerations, are replaced as a whole there, so they are here.
    ("spec", "containers"): ("name",),
    ("spec", "initContainers"): ("name",),
    ("spec", "volumes"): ("name",),
    ("spec", "imagePullSecrets"): ("name",),
    ("spec", "resourceClaims"): ("name",),
    ("spec", "schedulingGates"): ("name",),
    ("spec", "hostAliases"): ("ip",),
    ("spec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("container", "env"): ("name",),
    ("container", "ports"): ("containerPort", "protocol"),
    ("container", "volumeMounts"): ("mountPath",),
    ("container", "volumeDevices"): ("devicePath",),
}
KEY_DEFAULTS: Final = {"protocol": "TCP"}
"""Defaults of merge keys, where Kubernetes has one."""


def keyed(kind: Kind, holder: str, field: str, *optional: str) -> ListOf:
    """A list whose items are merged by their keys."""
    return ListOf(kind, MERGE_KEYS[holder, field], (*optional, *KEY_DEFAULTS))


_NO_HOST = "is probed at the pod itself, never at another address: remove it"

RESOURCES = Fields(
    {
        "limits": QUANTITIES,
        "requests": QUANTITIES,
        "claims": ListOf(Fields({"name": TEXT, "request": TEXT})),
    }
)
FIELD_REFERENCE = Fields({"apiVersion": TEXT, "fieldPath": TEXT})
RESOURCE_REFERENCE = Fields({"containerName": TEXT, "divisor": QUANTITY, "resource": TEXT})
_KEY_REFERENCE = Fields({"name": TEXT, "key": TEXT, "optional": FLAG})
_REFERENCE = Fields({"name": TEXT, "optional": FLAG})
NAMED = Fields({"name": TEXT})

_ENVIRONMENT = Fields(
    {
        "name": TEXT,
        "value": TEXT,
        "valueFrom": Fields(
            {
                "configMapKeyRef": _KEY_REFERENCE,
                "secretKeyRef": _KEY_REFERENCE,
                "fieldRef": FIELD_REFERENCE,
                "resourceFieldRef": RESOURCE_REFERENCE,
            }
        ),
    }
)
_ACTIONS: dict[str, Kind] = {
    "exec": Fields({"command": TEXTS}),
    "httpGet": Fields(
        {
            "host": Never(_NO_HOST, (None, "")),
            "path": TEXT,
            "port": PORT,
            "scheme": one_of("HTTP", "HTTPS"),
            "httpHeaders": ListOf(Fields({"name": TEXT, "value": TEXT})),
        }
    ),
    "tcpSocket": Fields({"host": Never(_NO_HOST, (None, "")), "port": PORT}),
}
_HOOK = Fields({**_ACTIONS, "sleep": Fields({"seconds": COUNT})})
_PROBE = Fields(
    {
        **_ACTIONS,
        "grpc": Fields({"port": WHOLE, "service": TEXT}),
        "failureThreshold": COUNT,
        "initialDelaySeconds": COUNT,
        "periodSeconds": COUNT,
        "successThreshold": COUNT,
        "terminationGracePeriodSeconds": COUNT,
        "timeoutSeconds": COUNT,
    }
)
_CONTAINER: dict[str, Kind] = {
    "name": TEXT,
    "image": TEXT,
    "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"),
    "command": TEXTS,
    "args": TEXTS,
    "workingDir": ABSOLUTE,
    "env": keyed(_ENVIRONMENT, "container", "env"),
    "envFrom": ListOf(
        Fields({"prefix": TEXT, "configMapRef": _REFERENCE, "secretRef": _REFERENCE})
    ),
    "ports": keyed(
        Fields(
            {
                "containerPort": WHOLE,
                "name": TEXT,
                "protocol": one_of("TCP", "UDP", "SCTP"),
                "hostPort": Never(NOT_THE_NODES, (None, 0)),
                "hostIP": Never(NOT_THE_NODES, (None, "")),
            }
        ),
        "container",
        "ports",
    ),
    "resources": RESOURCES,
    "securityContext": CONTAINER_SECURITY,
    "volumeMounts": keyed(
        Fields(
            {
                "name": TEXT,
                "mountPath": ABSOLUTE,
                "subPath": RELATIVE,
                "subPathExpr": RELATIVE,
                "readOnly": FLAG,
                "recursiveReadOnly": one_of("Disabled", "IfPossible", "Enabled"),
                "mountPropagation": only("None", NOT_THE_NODES, None),
            }
        ),
        "container",
        "volumeMounts",
    ),
    "volumeDevices": keyed(
        Fields({"name": TEXT, "devicePath": ABSOLUTE}), "container", "volumeDevices"
    ),
    "lifecycle": Fields({"postStart": _HOOK, "preStop": _HOOK}),
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
    "startupProbe": _PROBE,
    "stdin": FLAG,
    "stdinOnce": FLAG,
    "tty": FLAG,
    "terminationMessagePath": ABSOLUTE,
    "terminationMessagePolicy": one_of("File", "FallbackToLogsOnError"),
}
_ENDS_WITH_ITS_TRAINER = (
    "must be Never, or the pod would not end with its trainer: remove it; a sidecar stands below"
    " initContainers, with restartPolicy Always"
)
MAIN_CONTAINER = Fields(
    {
        **_CONTAINER,
        "restartPolicy": only("Never", _ENDS_WITH_ITS_TRAINER),
        "restartPolicyRules": Never(_ENDS_WITH_ITS_TRAINER, (None, [])),
    }
)
FIRST_CONTAINER = Fields({**_CONTAINER, "restartPolicy": one_of("Always", "Never", "OnFailure")})
