"""Security contexts that a study may set: only stricter than the operator's, or beside it.

By the restricted Pod Security standard, which no administrator can lift here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hippo.kube.pods.template_allowance import Allowance
from hippo.kube.pods.template_kinds import (
    COUNT,
    FLAG,
    RELATIVE,
    TEXT,
    TEXTS,
    Fields,
    Kind,
    ListOf,
    Never,
    Value,
    one_of,
    only,
)

RUNS_AS_ITS_OWN: Final = "pods of studies run without a service account and its token: remove it"
NOT_THE_NODES: Final = "pods of studies have no part in the node's namespaces: remove it"
NOT_PRIVILEGED: Final = "pods of studies run under the restricted Pod Security standard: remove it"
ON_LINUX: Final = "pods of studies run on Linux: remove it"

_SE_LINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t")
_SAFE_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
)
"""Sysctls that the standard allows: each is namespaced by pod."""


def _profile_rule(profile: Mapping[str, Any], _: Allowance) -> Iterator[tuple[str, str]]:
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "type", NOT_PRIVILEGED


def _capability_rule(found: Mapping[str, Any], _: Allowance) -> Iterator[tuple[str, str]]:
    dropped = found.get("drop", ["ALL"])
    if not isinstance(dropped, list) or "ALL" not in dropped:
        yield "drop", "must hold ALL: remove it"


_PROFILE = Fields(
    {"type": TEXT, "localhostProfile": RELATIVE}, NOT_PRIVILEGED, False, _profile_rule
)
_SECURITY: dict[str, Kind] = {
    "runAsNonRoot": only(True, NOT_PRIVILEGED),
    "runAsUser": Value(
        lambda value: COUNT.is_right(value) and value > 0,
        "must be the number of a user other than root",
    ),
    "runAsGroup": COUNT,
    "seccompProfile": _PROFILE,
    "appArmorProfile": _PROFILE,
    "seLinuxOptions": Fields(
        {
            "type": Value(lambda value: value in _SE_LINUX_TYPES, NOT_PRIVILEGED),
            "user": Never(NOT_PRIVILEGED, (None, "")),
            "role": Never(NOT_PRIVILEGED, (None, "")),
        }
    ),
    "windowsOptions": Never(ON_LINUX),
}
POD_SECURITY = Fields(
    {
        **_SECURITY,
        "fsGroup": COUNT,
        "fsGroupChangePolicy": one_of("Always", "OnRootMismatch"),
        "supplementalGroups": ListOf(COUNT),
        "supplementalGroupsPolicy": one_of("Merge", "Strict"),
        "seLinuxChangePolicy": one_of("MountOption", "Recursive"),
        "sysctls": ListOf(
            Fields(
                {
                    "name": Value(lambda value: value in _SAFE_SYSCTLS, NOT_PRIVILEGED),
                    "value": TEXT,
                }
            )
        ),
    },
    removable=False,
)
CONTAINER_SECURITY = Fields(
    {
        **_SECURITY,
        "privileged": only(False, NOT_PRIVILEGED, None),
        "allowPrivilegeEscalation": only(False, NOT_PRIVILEGED),
        "procMount": only("Default", NOT_PRIVILEGED, None),
        "readOnlyRootFilesystem": FLAG,
        "capabilities": Fields(
            {"add": Never(NOT_PRIVILEGED, (None, [])), "drop": TEXTS},
            NOT_PRIVILEGED,
            False,
            _capability_rule,
        ),
    },
    removable=False,
)
