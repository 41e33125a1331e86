"""Finds plans and studies in a store: ``<root>/<namespace>/<plan>/...``.

A plan is named by the first digits of its trainer's signature. Namespaces never share a plan: the
same study trained in two namespaces has two plans, with separate results and decisions.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hippo.store.blobs import BlobInfo, Blobs, LinkInside, StoreError
from hippo.store.layout import PLAN_FOLDERS
from hippo.store.plan_store import PlanStore

PLAN_NAME_DIGITS = 16

_PLAN_BLOB = re.compile(
    rf"([^/]+/[0-9a-f]{{{PLAN_NAME_DIGITS}}})/(?:plan\.json|(?:{'|'.join(PLAN_FOLDERS)})/.+)"
)
_PLAN_LINK = re.compile(
    rf"([^/]+/[0-9a-f]{{{PLAN_NAME_DIGITS}}})"
    rf"(?:/(?:plan\.json|spending\.json|(?:{'|'.join(PLAN_FOLDERS)})(?:/.+)?))?"
)

_PLAN_NAME = re.compile(rf"[0-9a-f]{{{PLAN_NAME_DIGITS}}}")


def is_plan_name(text: str) -> bool:
    """Whether the text is a valid plan name."""
    return _PLAN_NAME.fullmatch(text) is not None


def plan_path(namespace: str, signature: str) -> str:
    """Returns the path of a signature's plan, relative to the store."""
    return f"{namespace}/{signature[:PLAN_NAME_DIGITS]}"


def list_plans(
    blobs: Blobs, namespace: str | None = None, *, links: list[str] | None = None
) -> dict[str, list[BlobInfo]]:
    """Returns the blobs of each plan, by its path, sorted, of one namespace or of all. One listing.

    Symbolic links hide nothing else: a plan that contains one is included, and reading it raises.
    The names of links outside plans are added to ``links``.
    """
    plans: dict[str, list[BlobInfo]] = {}
    inside: tuple[str, ...] = ()
    try:
        found = blobs.list("" if namespace is None else f"{namespace}/")
    except LinkInside as error:
        found, inside = error.found, error.links
        if not inside:  # the namespace's own folder is a link
            raise
    for info in found:
        match = _PLAN_BLOB.fullmatch(info.name)
        if match is not None:
            plans.setdefault(match[1], []).append(info)
    for link in inside:
        match = _PLAN_LINK.fullmatch(link)
        if match is not None:
            plans.setdefault(match[1], [])
        elif links is not None:
            links.append(link)
    return dict(sorted(plans.items())) if inside else plans


@dataclass(frozen=True, slots=True)
class PlanSizes:
    """Sizes of a plan's blobs, in bytes."""

    total: int  # without the lock
    checkpoints: dict[str, int]  # manifest and data, by key
    studies: dict[str, int]  # document and decisions, by name


def measure(plan: str, infos: Iterable[BlobInfo]) -> PlanSizes:
    """Adds up the blobs of the plan at this path."""
    total = 0
    checkpoints: defaultdict[str, int] = defaultdict(int)
    studies: defaultdict[str, int] = defaultdict(int)
    for info in infos:
        folder, _, rest = info.name.removeprefix(f"{plan}/").partition("/")
        if folder == "lock":
            continue
        total += info.size
        if folder == "manifests":
            checkpoints[rest.removesuffix(".json")] += info.size
        elif folder == "data":
            checkpoints[rest.partition("/")[0]] += info.size
        elif folder == "studies":
            studies[rest.partition("/")[0]] += info.size
    return PlanSizes(total, dict(checkpoints), dict(studies))


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study found in a store by its name."""

    plan: str  # path of its plan
    document: dict[str, Any]

    @property
    def namespace(self) -> str:
        return self.plan.partition("/")[0]

    @property
    def is_deleted(self) -> bool:
        return self.document.get("deleted") is not None

    @property
    def updated(self) -> float:
        """Unix time at which the study was last worked on."""
        return float((self.document.get("status") or {}).get("updated", 0.0))


def list_study_names(blobs: Blobs, namespace: str) -> set[str]:
    """Returns the names of all studies of a namespace, in any plan."""
    return {
        parts[3]
        for infos in list_plans(blobs, namespace).values()
        for info in infos
        if len(parts := info.name.split("/")) == 5 and parts[2::2] == ["studies", "study.json"]
    }


def find_studies(blobs: Blobs, name: str, namespace: str | None = None) -> list[StoredStudy]:
    """Returns every study of this name, in all plans of one namespace or of all.

    The most recently updated comes first, deleted ones last. A damaged or newer plan does not hide
    the others; if nothing else is found, its StoreError is raised.
    """
    found: list[StoredStudy] = []
    problems: list[StoreError] = []
    for plan, infos in list_plans(blobs, namespace).items():
        if not any(info.name == f"{plan}/studies/{name}/study.json" for info in infos):
            continue
        try:
            found.append(StoredStudy(plan, PlanStore(blobs, plan).read_study(name)))
        except StoreError as error:
            problems.append(error)
    if problems and not found:
        raise problems[0]
    return sorted(found, key=lambda study: (study.is_deleted, -study.updated))
