"""How the operator is to run: what its command line and its environment say."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hippo.kube.pods.template_allowance import BUILT_IN, FIELDS, NOTHING_MORE, Allowance
from hippo.kube.pods.template_fields import refuse_field
from hippo.kube.pods.template_validation import refuse_name
from hippo.model import InvalidSpec
from hippo.store import Holder
from hippo.store.clusters import CLUSTER_PATTERN

STORE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "HIPPO_S3_PATIENCE",
)
"""What stage pods take over from the operator's own environment: no credentials."""


PULL_POLICIES = ("Always", "IfNotPresent", "Never")

_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. Raises InvalidSpec, which names the option."""

    store: str
    namespaces: tuple[str, ...] = ()  # none: all
    metrics_port: int = 8080  # 0: none
    max_workers: int = 100  # pods of one plan at once
    default_parallelism: int = 4  # of studies that do not say
    resync: float = 60.0  # everything is looked at again this often
    identity: str = "hippo"  # whoever starts under the same one takes over at once
    cluster_uid: str | None = None  # None: that of the namespace kube-system
    store_ca_configmap: str | None = None
    cache_claim: str | None = None  # volume claim in each namespace, for CheckpointCache
    cache_bytes: int | None = None  # None: CheckpointCache's own bound
    image_pull_policy: str = "IfNotPresent"
    default_requests: Mapping[str, str] = field(default_factory=dict)
    """Of stage pods whose study asks for nothing of that name: quantities, or for cpu
    ``threads``."""
    allowance: Allowance = NOTHING_MORE  # for podTemplates, beside the built-in list
    own_namespace: str | None = None  # whose Secrets are the operator's: not for studies
    per_study_metrics: bool = False  # names and best values, for whoever reaches the port
    window: int = 500  # trials of a study under way at once
    store_environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.resync):
            raise InvalidSpec.at("--resync", "must be finite")
        if not self.identity.strip() or not self.identity.isprintable():
            raise InvalidSpec.at("--identity", "must be a word or a few, on one line")
        if self.image_pull_policy not in PULL_POLICIES:
            raise InvalidSpec.at("--image-pull-policy", f"must be {' or '.join(PULL_POLICIES)}")
        if self.cluster_uid is not None and not re.fullmatch(CLUSTER_PATTERN, self.cluster_uid):
            raise InvalidSpec.at(
                "--cluster-uid", "must be of letters, digits, '-', '.' and '_', as a UUID is"
            )
        for option, name in (
            ("--store-ca-configmap", self.store_ca_configmap),
            ("--cache-claim", self.cache_claim),
            ("--own-namespace", self.own_namespace),
        ):
            if name is not None and _NAME.fullmatch(name) is None:
                raise InvalidSpec.at(
                    option, "must be the name of an object: lower-case letters, digits, '-' and '.'"
                )


_ALLOWED_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?")
_ALLOWED_START = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_./]*)?\*")
MAX_ALLOWED_NAME, MAX_ALLOWED = 317, 1000
"""Characters of a name (a label's has no more), and how many names there may be."""


def read_allowance(given: Iterable[str]) -> Allowance:
    """From KIND=NAME each. Raises ValueError with one line."""
    more: dict[str, list[str]] = {}
    for text in given:
        kind, _, name = text.partition("=")
        if (wrong := _refuse_allowed(kind, name)) is not None:
            raise ValueError(f"--allow {text}: {wrong}")
        more.setdefault(kind, []).append(name)
    if sum(map(len, more.values())) > MAX_ALLOWED:
        raise ValueError(f"--allow: must be given at most {MAX_ALLOWED:,} times; use NAME*")
    return Allowance({kind: tuple(found) for kind, found in more.items()})


def _refuse_allowed(kind: str, name: str) -> str | None:
    if kind not in BUILT_IN:
        return f"must be KIND=NAME, and KIND one of {', '.join(BUILT_IN)}"
    is_start = kind != FIELDS and _ALLOWED_START.fullmatch(name) is not None
    if len(name) > MAX_ALLOWED_NAME or not (is_start or _ALLOWED_NAME.fullmatch(name)):
        start = "" if kind == FIELDS else ", or the beginning of one and *"
        return f"must be {kind}= and a name{start}"
    if kind == FIELDS:
        return refuse_field(name)
    return refuse_name(kind, name)


THREADS = "threads"
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|[KMGTP]i?)?")


def read_default_requests(given: Iterable[str]) -> dict[str, str]:
    """From NAME=QUANTITY each. Raises ValueError with one line."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, quantity = text.partition("=")
        is_threads = (name, quantity) == ("cpu", THREADS)
        if not (name and equals and (is_threads or _QUANTITY.fullmatch(quantity))):
            raise ValueError(
                f"--default-request {text}: must be NAME=QUANTITY, as in memory=1Gi, or"
                f" cpu={THREADS}"
            )
        found[name] = quantity
    return found


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
