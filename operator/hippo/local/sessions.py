"""Opening a plan of the store for a run: which plan it is, what it holds, who may write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hippo.lifecycles import StudyState
from hippo.local.sources import digest_sources
from hippo.messages import StudyAdded
from hippo.model import (
    InvalidSpec,
    Study,
    editable_changes,
    parse_study,
    signature,
    signature_document,
)
from hippo.plan import CostModel, Metrics, SearchPlan, StoredCheckpoint
from hippo.runs import StudyRun
from hippo.store import PlanRecords, PlanStore, StoreError, find_studies
from hippo.store.records import Began, CheckpointSaved, MetricsReported


@dataclass(frozen=True, slots=True)
class LocatedStudy:
    """A study and the folder of its file: where its trainer is imported from."""

    study: Study
    folder: Path


def build_signature_document(studies: list[LocatedStudy], *, merge: bool) -> dict[str, Any]:
    """What results depend on beside the sequence, of studies that are to share one plan.

    Raises InvalidSpec naming the first field in which they differ: their namespace, or one of their
    trainers.
    """
    documents = [
        signature_document(item.study.spec.trainer, digest_sources(item.folder)) for item in studies
    ]
    for item, document in zip(studies[1:], documents[1:], strict=True):
        if item.study.namespace != studies[0].study.namespace:
            raise InvalidSpec.at(
                "metadata.namespace",
                f"studies {studies[0].study.name} and {item.study.name} cannot share a plan: they"
                f" are of the namespaces {studies[0].study.namespace} and {item.study.namespace};"
                " run them one after the other",
            )
        for name in sorted({*documents[0], *document}):
            if documents[0].get(name) != document.get(name):
                raise InvalidSpec.at(
                    "spec.trainer",
                    f"studies {studies[0].study.name} and {item.study.name} cannot share a plan:"
                    f" their {name} differs; run them one after the other",
                )
    document = dict(documents[0])
    if not merge:
        document["merge"] = False
    return document


@dataclass(slots=True)
class Session:
    """What a store's plan held when the run began."""

    store: PlanStore
    signature: str
    records: PlanRecords
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)  # of all studies, by name

    @classmethod
    def open(cls, store: PlanStore, document: dict[str, Any]) -> Session:
        """Raises StoreError. The caller holds the plan's lock."""
        store.initialise(document)
        session = cls(store, signature(document), store.load())
        for name in store.list_studies():
            session.documents[name] = store.read_study(name)
        return session

    def build_plan(self) -> SearchPlan:
        """A plan that knows every checkpoint and result of the store."""
        plan = SearchPlan(self.signature)
        metrics: list[tuple[str, int, Metrics]] = [
            (report.key, report.step, report.metrics)
            for reports in self.records.reports.values()
            for report in reports
            if isinstance(report, MetricsReported)
        ]
        plan.recall(
            [
                StoredCheckpoint(m.key, m.step, m.size, m.state_digest)
                for m in self.records.manifests.values()
            ],
            metrics,
        )
        return plan

    def build_costs(self) -> CostModel:
        """Estimates from what earlier runs have measured."""
        costs = CostModel()
        for reports in self.records.reports.values():
            costs.observe_mean(reports[-1].trained, reports[-1].train_seconds)
            for report in reports:
                match report:
                    case Began():
                        costs.observe("start", report.start_seconds)
                        if report.step > 0:
                            costs.observe("load", report.load_seconds)
                    case CheckpointSaved():
                        costs.observe("save", report.copy_seconds)
                    case MetricsReported():
                        costs.observe("evaluate", report.evaluate_seconds)
                    case _:
                        pass
        costs.settle()
        return costs

    def admit(self, study: Study) -> StudyAdded:
        """A study as the store knows it. Raises InvalidSpec if it was changed unduly."""
        known = self.documents.get(study.name)
        if known is None:
            return StudyAdded(study)
        try:
            if editable_changes(parse_study(known["study"]), study):
                self._rewrite(study, known)
        except InvalidSpec as error:
            raise InvalidSpec(
                (f"{study.name}: {path}", message) for path, message in error.errors
            ) from None
        seconds, steps = self._spent(study.name)
        status = known.get("status") or {}
        # With a damaged record it may lack results; if not, it ends again at once.
        has_ended = bool(status.get("state")) and not self.records.problems
        return StudyAdded(
            study,
            decisions=tuple(self.store.read_decisions(study.name)),
            worker_seconds=seconds,
            steps_trained=steps,
            wall_seconds=float(status.get("wallSeconds", 0.0)),
            ended=(StudyState(status["state"]), status["message"]) if has_ended else None,
        )

    def write_study(self, study: Study, run: StudyRun | None, *, wall_seconds: float = 0.0) -> None:
        """Note a study, and how it stands: what it retains holds for later runs too."""
        status: dict[str, Any] = {"wallSeconds": wall_seconds, "updated": time.time()}
        if run is not None and run.state.is_final:
            status |= {"state": run.state.value, "message": run.message}
        if run is not None and run.best is not None and run.best.latest is not None:
            step = run.best.latest[0]
            status |= {
                "best": run.best.index,
                "bestStep": step,
                "bestKey": run.best.node.at(step).key(step),
            }
        self._rewrite(study, {"status": status})

    def _rewrite(self, study: Study, known: dict[str, Any]) -> None:
        """Note a study as it is written now, with the status that is known."""
        document = {
            **known,
            "study": study.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        self.store.write_study(study.name, document)

    def _spent(self, name: str) -> tuple[float, float]:
        """Worker-seconds and trained steps of a study in earlier runs."""
        seconds = steps = 0.0
        for reports in self.records.reports.values():
            began = reports[0]
            if isinstance(began, Began) and name in began.studies:
                seconds += reports[-1].worker_seconds / len(began.studies)
                steps += reports[-1].trained / len(began.studies)
        return seconds, steps

    def kept_by_others(self, names: set[str]) -> Callable[[str], bool]:
        """Which stored checkpoints studies outside this run need: they are not deleted."""
        others = [doc for name, doc in self.documents.items() if name not in names]
        if any(
            not (doc.get("status") or {}).get("state")
            or doc["study"]["spec"].get("checkpoints", {}).get("retain") == "all"
            for doc in others
        ):
            return lambda key: True
        best = {(doc.get("status") or {}).get("bestKey") for doc in others}
        return lambda key: key in best

    def differences_to_earlier(self, name: str) -> list[str]:
        """What of the trainer has changed since a study, new here, was worked on in another plan;
        empty if it was not.
        """
        try:
            namespace = self.store.plan.partition("/")[0]
            earlier = find_studies(self.store.blobs, name, namespace)
            if not earlier or earlier[0].is_deleted:
                return []
            before = PlanStore(self.store.blobs, earlier[0].plan).read_signature() or {}
            now = self.store.read_signature() or {}
        except StoreError:  # damaged, or a newer Hippo's: that plan is none of ours
            return []
        names = sorted({*before, *now})
        return [name for name in names if before.get(name) != now.get(name) and name != "merge"]
