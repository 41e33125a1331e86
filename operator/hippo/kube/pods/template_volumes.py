"""Volumes that a study may mount."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hippo.kube.pods.template_allowance import CSI_DRIVERS, Allowance
from hippo.kube.pods.template_containers import FIELD_REFERENCE, NAMED, RESOURCE_REFERENCE
from hippo.kube.pods.template_kinds import (
    COUNT,
    FLAG,
    QUANTITIES,
    QUANTITY,
    RELATIVE,
    TEXT,
    TEXT_MAP,
    TEXTS,
    Fields,
    ListOf,
    Never,
    listed,
    one_of,
)
from hippo.kube.pods.template_security import RUNS_AS_ITS_OWN

_NO_FILES = "pods of studies see no files of their node: use a persistentVolumeClaim"
_NO_VOLUME = (
    "is none of the volumes that pods of studies may have: emptyDir, configMap, secret,"
    " persistentVolumeClaim, ephemeral, downwardAPI, projected, or csi with a driver that an"
    " administrator allows"
)

RESERVED_PREFIX = "hippo-"
"""Prefix of the volumes that the operator mounts: no template may define one."""


def _name_rule(volume: Mapping[str, Any], _: Allowance) -> Iterator[tuple[str, str]]:
    if str(volume.get("name")).startswith(RESERVED_PREFIX):
        wrong = f"names that begin with {RESERVED_PREFIX} are the operator's: choose another one"
        yield "name", wrong


_ITEMS = ListOf(Fields({"key": TEXT, "path": RELATIVE, "mode": COUNT}))
_POD_ITEMS = ListOf(
    Fields(
        {
            "path": RELATIVE,
            "mode": COUNT,
            "fieldRef": FIELD_REFERENCE,
            "resourceFieldRef": RESOURCE_REFERENCE,
        }
    )
)
_DATA_SOURCE = Fields({"apiGroup": TEXT, "kind": TEXT, "name": TEXT})
_CLAIM = Fields(
    {
        # Neither metadata, which provisioners obey, nor what picks a volume that is there.
        "spec": Fields(
            {
                "accessModes": TEXTS,
                "resources": Fields({"limits": QUANTITIES, "requests": QUANTITIES}),
                "storageClassName": TEXT,
                "volumeMode": one_of("Filesystem", "Block"),
                "dataSource": _DATA_SOURCE,
                "dataSourceRef": _DATA_SOURCE,
            }
        )
    }
)
VOLUME = Fields(
    {
        "name": TEXT,
        "hostPath": Never(_NO_FILES),
        "emptyDir": Fields({"medium": TEXT, "sizeLimit": QUANTITY}),
        "configMap": Fields(
            {"name": TEXT, "items": _ITEMS, "defaultMode": COUNT, "optional": FLAG}
        ),
        "secret": Fields(
            {"secretName": TEXT, "items": _ITEMS, "defaultMode": COUNT, "optional": FLAG}
        ),
        "persistentVolumeClaim": Fields({"claimName": TEXT, "readOnly": FLAG}),
        "ephemeral": Fields({"volumeClaimTemplate": _CLAIM}),
        "downwardAPI": Fields({"items": _POD_ITEMS, "defaultMode": COUNT}),
        "projected": Fields(
            {
                "defaultMode": COUNT,
                "sources": ListOf(
                    Fields(
                        {
                            "configMap": Fields({"name": TEXT, "items": _ITEMS, "optional": FLAG}),
                            "secret": Fields({"name": TEXT, "items": _ITEMS, "optional": FLAG}),
                            "downwardAPI": Fields({"items": _POD_ITEMS}),
                            "serviceAccountToken": Never(RUNS_AS_ITS_OWN),
                            # A certificate for its service account.
                            "podCertificate": Never(RUNS_AS_ITS_OWN),
                        }
                    )
                ),
            }
        ),
        "csi": Fields(
            {
                "driver": listed(CSI_DRIVERS),
                "fsType": TEXT,
                "readOnly": FLAG,
                "nodePublishSecretRef": NAMED,
                "volumeAttributes": TEXT_MAP,
            }
        ),
    },
    closed=_NO_VOLUME,
    rule=_name_rule,
)
