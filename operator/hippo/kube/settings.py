"""How the operator is to run: what its command line and its environment say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hippo.store import Holder

STORE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "HIPPO_S3_PATIENCE",
)
"""What stage pods take over from the operator's own environment: no credentials."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds."""

    store: str
    namespaces: tuple[str, ...] = ()  # none: all
    metrics_port: int = 8080  # 0: none
    max_workers: int = 100  # pods of one plan at once
    default_parallelism: int = 4  # of studies that do not say
    resync: float = 60.0  # everything is looked at again this often
    identity: str = "hippo"  # whoever starts under the same one takes over at once
    store_ca_configmap: str | None = None
    cache_claim: str | None = None  # volume claim in each namespace, for CheckpointCache
    cache_bytes: int | None = None  # None: CheckpointCache's own bound
    image_pull_policy: str = "IfNotPresent"
    window: int = 500  # trials of a study under way at once
    store_environment: Mapping[str, str] = field(default_factory=dict)


def build_holder(identity: str, *, eagerly: bool = True) -> Holder:
    """As whom an operator holds plans. ``eagerly``: under one identity a restarted operator need
    not wait until its old lock has expired.
    """
    return replace(
        Holder.current(),
        host=f"operator {identity}",
        command="hippo operator",
        boot=f"kubernetes {identity}" if eagerly else "",
    )


def read_store_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What stage pods are to know of the store."""
    found = {name: environment.get(name, "").strip() for name in STORE_VARIABLES}
    return {name: value for name, value in found.items() if value}
