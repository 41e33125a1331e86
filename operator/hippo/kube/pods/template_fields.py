"""The fields of a pod that a study may set, each with the kind of its values.

By the types of Kubernetes' core/v1. What is not here is refused, and so is what breaks the
restricted Pod Security standard, whatever an administrator allows.
"""

from __future__ import annotations

from typing import Final

from hippo.kube.pods.template_containers import FIRST_CONTAINER, MAIN_CONTAINER, NAMED, keyed
from hippo.kube.pods.template_kinds import (
    COUNT,
    FLAG,
    TEXT,
    TEXTS,
    Fields,
    Kind,
    ListOf,
    Never,
    one_of,
    only,
)
from hippo.kube.pods.template_scheduling import SCHEDULING
from hippo.kube.pods.template_security import NOT_THE_NODES, ON_LINUX, POD_SECURITY, RUNS_AS_ITS_OWN
from hippo.kube.pods.template_volumes import VOLUME

SPEC: Final = Fields(
    {
        **SCHEDULING,
        "activeDeadlineSeconds": COUNT,
        "automountServiceAccountToken": only(False, RUNS_AS_ITS_OWN),
        "containers": keyed(MAIN_CONTAINER, "spec", "containers", "name"),
        "dnsConfig": Fields(
            {
                "nameservers": TEXTS,
                "searches": TEXTS,
                "options": ListOf(Fields({"name": TEXT, "value": TEXT})),
            }
        ),
        "dnsPolicy": one_of("ClusterFirst", "Default", "None"),
        "enableServiceLinks": FLAG,
        "ephemeralContainers": Never("cannot be given to a new pod: remove it", (None, [])),
        "hostAliases": keyed(Fields({"ip": TEXT, "hostnames": TEXTS}), "spec", "hostAliases"),
        "hostIPC": only(False, NOT_THE_NODES, None),
        "hostNetwork": only(False, NOT_THE_NODES, None),
        "hostPID": only(False, NOT_THE_NODES, None),
        "hostUsers": only(False, NOT_THE_NODES),
        "hostname": TEXT,
        "imagePullSecrets": keyed(NAMED, "spec", "imagePullSecrets"),
        "initContainers": keyed(FIRST_CONTAINER, "spec", "initContainers"),
        "os": Fields({"name": only("linux", ON_LINUX, None)}),
        "restartPolicy": only(
            "Never", "must be Never: the operator tries again, from the last checkpoint; remove it"
        ),
        "securityContext": POD_SECURITY,
        "serviceAccount": Never(RUNS_AS_ITS_OWN, (None, "")),
        "serviceAccountName": Never(RUNS_AS_ITS_OWN, (None, "")),
        "setHostnameAsFQDN": FLAG,
        "shareProcessNamespace": FLAG,
        "subdomain": TEXT,
        "terminationGracePeriodSeconds": COUNT,
        "volumes": keyed(VOLUME, "spec", "volumes"),
    },
    removable=False,
)


def find_kind(place: str) -> Kind | None:
    """The kind of value at ``spec.containers.image`` and the like; a closed mapping stands for all
    that is below it. None: the place is not listed.
    """
    first, *rest = place.split(".")
    kind: Kind | None = SPEC if first == "spec" else None
    for name in rest:
        while isinstance(kind, ListOf):
            kind = kind.item
        if not isinstance(kind, Fields):
            return kind
        if name not in kind.known and kind.closed is not None:
            return Never(kind.closed)
        kind = kind.known.get(name)
    return kind


def refuse_field(place: str) -> str | None:
    """Why an administrator cannot allow this field; None: it can be done."""
    holder, _, _ = place.rpartition(".")
    kind = find_kind(place)
    if isinstance(kind, Never):
        return "can be allowed to no study"
    if kind is not None:
        return "is among the fields that studies may set"
    if place != "spec" and find_kind(holder) is None:
        return f"lies in a field that is not allowed itself: name {holder or 'spec.FIELD'}"
    return None
