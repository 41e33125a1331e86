"""The trainer's signature: everything results depend on apart from the hyper-parameter sequence."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from hippo.model.sequences.numbers import canonical_json
from hippo.model.study import TrainerSpec

TRAINING_VERSION = 1
"""Incremented whenever the runner changes how it trains: random seeds, data order, saved state."""

_CONTAINER_FIELDS = ("command", "args", "env", "envFrom", "workingDir", "volumeMounts")


def signature_document(trainer: TrainerSpec, source_digest: str | None) -> dict[str, Any]:
    """Returns the JSON document that the signature hashes.

    ``source_digest`` identifies the Python sources that a local worker imports; image and pod do
    not matter then. With None, the trainer is in the image, and the pod's settings count as well,
    except scheduling, labels and tolerations.
    """
    document: dict[str, Any] = {
        "trainingVersion": TRAINING_VERSION,
        "entrypoint": trainer.entrypoint,
        "config": trainer.config,
        "seed": trainer.seed,
        "threads": trainer.threads,
        "version": trainer.version,
        "exactness": trainer.exactness,
    }
    if source_digest is not None:
        document["sources"] = source_digest
    else:
        document["image"] = trainer.image
        document["limits"] = _compute(trainer.resources)
        document["pod"] = _pod(trainer.pod_template)
    return document


def signature(document: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of the canonical JSON, in hex."""
    return sha256(canonical_json(document).encode()).hexdigest()


def _compute(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the CPU and device limits; memory does not change results."""
    limits = resources.get("limits")
    if not isinstance(limits, Mapping):
        return {}
    # A quantity may be a number or a string.
    return {name: str(limits[name]) for name in limits if name == "cpu" or "/" in name}


def _pod(template: Mapping[str, Any]) -> dict[str, Any]:
    spec = template.get("spec", template)
    if not isinstance(spec, Mapping):
        return {}
    kept: dict[str, Any] = {}
    for field in ("containers", "initContainers"):
        containers = spec.get(field)
        if isinstance(containers, list):
            kept[field] = [_container(one) for one in containers if isinstance(one, Mapping)]
    if "volumes" in spec:
        kept["volumes"] = spec["volumes"]
    return kept


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    kept = {field: container[field] for field in _CONTAINER_FIELDS if field in container}
    kept["name"] = container.get("name")
    kept["image"] = container.get("image")
    resources = container.get("resources")
    if isinstance(resources, Mapping):
        kept["limits"] = _compute(resources)
    return kept
