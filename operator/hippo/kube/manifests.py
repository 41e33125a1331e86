"""SearchPlans, Trials and names of Events that the operator creates, as pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hippo.engine.reopening import find_void
from hippo.kube import names
from hippo.kube.resources import Document
from hippo.model import Study
from hippo.protocol.decisions import Decision


def build_search_plan(
    name: str, namespace: str, *, signature: str, study: Study, owners: list[Document]
) -> Document:
    trainer = study.spec.trainer
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": "SearchPlan",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY},
            "ownerReferences": owners,
        },
        "spec": {
            "signature": signature,
            "entrypoint": trainer.entrypoint,
            "image": trainer.image,
            "store": f"{namespace}/{name}",
        },
    }


def build_trial(study: Study, uid: str, decisions: list[Decision]) -> Document:
    """The Trial of one trial's decisions, the first of which suggests it."""
    first = decisions[0]
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": "Trial",
        "metadata": {
            "name": trial_name(study.name, first.trial),
            "namespace": study.namespace,
            "labels": {
                names.LABEL_MANAGED_BY: names.MANAGED_BY,
                names.LABEL_STUDY: study.name,
                names.LABEL_STUDY_UID: uid,
            },
            "ownerReferences": [owner("Study", study.name, uid, is_controller=True)],
        },
        "spec": build_trial_spec(study.name, decisions),
    }


def build_trial_spec(study: str, decisions: list[Decision]) -> Document:
    """The spec of a trial: all decisions on it, and what they come to."""
    first = decisions[0]
    going = [decision for decision in decisions if decision.kind in ("suggest", "promote")]
    spec: Document = {
        "study": study,
        "index": first.trial,
        "hyperparameters": first.hyperparameters,
        "steps": going[-1].steps,
        "decisions": [
            {
                "index": decision.index,
                "kind": decision.kind,
                "steps": decision.steps,
                "reason": decision.reason,
            }
            | ({"marks": list(decision.marks)} if decision.marks else {})
            | ({"request": decision.request} if decision.request is not None else {})
            for decision in decisions
        ],
    }
    if first.parent is not None:
        spec["parent"] = first.parent
    if first.seed is not None:
        spec["seed"] = first.seed
    stops = {decision.index for decision in decisions if decision.kind == "stop"}
    if stops:
        spec["stop"] = bool(stops - find_void(decisions))
    return spec


def trial_name(study: str, index: int) -> str:
    return f"{study}-{index}"


def owner(kind: str, name: str, uid: str, *, is_controller: bool = False) -> Document:
    """A reference that lets the garbage collector remove what belongs to an object."""
    reference = {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": kind,
        "name": name,
        "uid": uid,
    }
    return reference | ({"controller": True} if is_controller else {})


def event_name(involved: Mapping[str, Any], reason: str, message: str) -> str:
    """The same happening has the same name, so that it is counted, not repeated."""
    digest = hashlib.sha256(f"{involved.get('uid')} {reason} {message}".encode()).hexdigest()
    return f"{involved['name'][:200]}.{digest[:16]}"
