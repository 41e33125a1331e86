"""Opening a plan of the store for a run: which plan it is, what it holds, who may write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hippo.driving.sources import digest_sources
from hippo.driving.spending import settle
from hippo.keeping import Scope, build_holdings, read_intent
from hippo.lifecycles import StudyState
from hippo.messages import StudyAdded
from hippo.model import (
    InvalidSpec,
    Study,
    editable_changes,
    parse_study,
    signature,
    signature_document,
)
from hippo.plan import CostModel, SearchPlan
from hippo.recall import build_costs, build_plan
from hippo.runs import StudyRun
from hippo.store import RESTORE, PlanRecords, PlanStore, StoreError, find_studies
from hippo.store.records import Spending, Spent


@dataclass(frozen=True, slots=True)
class LocatedStudy:
    """A study and its file; its trainer is imported from the file's folder."""

    study: Study
    file: Path  # absolute

    @property
    def folder(self) -> Path:
        return self.file.parent


def build_signature_document(studies: list[LocatedStudy], *, merge: bool) -> dict[str, Any]:
    """What results depend on beside the sequence, of studies that are to share one plan.

    Raises InvalidSpec naming what they differ in: their namespace, or all such fields of their
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
        names = _differing(documents[0], document)
        if names:
            raise InvalidSpec.at(
                "spec.trainer",
                f"studies {studies[0].study.name} and {item.study.name} cannot share a plan: their"
                f" {', '.join(names)} {'differs' if len(names) == 1 else 'differ'};"
                " run them one after the other",
            )
    document = dict(documents[0])
    if not merge:
        document["merge"] = False
    return document


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The fields in which two signature documents differ, within ``config`` as well; sorted."""
    names = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    if "config" in names:
        at = names.index("config")
        mine, theirs = one.get("config", {}), other.get("config", {})
        names[at : at + 1] = [f"config.{name}" for name in _differing(mine, theirs)]
    return names


@dataclass(slots=True)
class Session:
    """What a store's plan held when the run began."""

    store: PlanStore
    signature: str
    records: PlanRecords
    spent: dict[str, Spent] = field(default_factory=dict)  # by all studies, when the run began
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)  # of all studies, by name
    forgotten: set[str] = field(
        default_factory=set
    )  # studies that had been deleted, now begun anew

    @classmethod
    def open(cls, store: PlanStore, document: dict[str, Any]) -> Session:
        """Raises StoreError. The caller holds the plan's lock."""
        store.initialise(document)
        records = store.load()
        spent = settle(store.read_spending(), records.reports)
        session = cls(store, signature(document), records, spent)
        for name in store.list_studies():
            session.documents[name] = store.read_study(name)
        return session

    def build_plan(self) -> SearchPlan:
        """A plan that knows every checkpoint and result of the store."""
        return build_plan(self.signature, self.records)

    def build_costs(self) -> CostModel:
        """Estimates from what earlier runs have measured."""
        return build_costs(self.records)

    def admit(self, study: Study, *, uid: str | None = None) -> StudyAdded:
        """A study as the store knows it. Raises InvalidSpec if it was changed unduly.

        ``uid``: of its object in a cluster; under another one it is another study of that name.
        """
        known = self.documents.get(study.name)
        is_another = uid is not None and known is not None and known.get("uid") != uid
        if known is not None and (known.get("deleted") is not None or is_another):
            # Another study of that name: it finds the results, and nothing else.
            self.store.delete_study(study.name)
            del self.documents[study.name]
            self.forgotten.add(study.name)
            known = None
        if known is None:
            return StudyAdded(study)
        status = known.get("status") or {}
        # With a damaged record it may lack results; if not, it ends again at once.
        has_ended = bool(status.get("state")) and not self.records.problems
        stored = self._parse(known["study"], study.name)
        try:
            if editable_changes(stored, study):
                if has_ended:
                    study = stored  # it stays as it was
                else:
                    self._rewrite(study, known)
        except InvalidSpec as error:
            raise InvalidSpec(
                (f"{study.name}: {path}", message) for path, message in error.errors
            ) from None
        spent = self._spent(study.name)
        return StudyAdded(
            study,
            decisions=tuple(self.store.read_decisions(study.name)),
            worker_seconds=spent.worker_seconds,
            steps_trained=spent.steps_trained,
            wall_seconds=float(status.get("wallSeconds", 0.0)),
            ended=(StudyState(status["state"]), status["message"]) if has_ended else None,
        )

    @staticmethod
    def _parse(document: dict[str, Any], name: str) -> Study:
        try:
            return parse_study(document)
        except InvalidSpec as error:
            reason = str(error).splitlines()[0]
            raise StoreError(
                f"study {name} in the store cannot be read: {reason}: {RESTORE}"
            ) from None

    def write_study(
        self,
        study: Study,
        run: StudyRun | None,
        *,
        wall_seconds: float = 0.0,
        uid: str | None = None,
    ) -> None:
        """Note a study, and how it stands: what it retains holds for later runs too."""
        status: dict[str, Any] = {"wallSeconds": wall_seconds, "updated": time.time()}
        if run is not None and run.state.is_final:
            status |= {"state": run.state.value, "message": run.message}
        if run is not None and run.best is not None and run.best.latest is not None:
            status |= {
                "best": run.best.index,
                "bestStep": run.best.latest[0],
                "bestKey": run.best.latest_key,
            }
        known = self.documents.get(study.name)
        if known is None:  # what an earlier study of this name has spent is none of its own
            known = {"before": self._spent(study.name).model_dump(by_alias=True)}
            if uid is not None:
                known["uid"] = uid
        self._rewrite(study, {**known, "status": status})

    def rewrite_study(self, study: Study) -> None:
        """Note a study that was edited while it is trained."""
        self._rewrite(study, self.documents[study.name])

    def _rewrite(self, study: Study, known: dict[str, Any]) -> None:
        """Note a study as it is written now, with the status that is known."""
        document = {
            **known,
            "study": study.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        self.store.write_study(study.name, document)
        self.documents[study.name] = document

    def _spent(self, name: str) -> Spent:
        """What a study was charged in earlier runs; not what one of its name was, deleted since."""
        spent, before = self.spent.get(name, Spent()), self._before(name)
        return Spent(
            worker_seconds=spent.worker_seconds - before.worker_seconds,
            steps_trained=spent.steps_trained - before.steps_trained,
        )

    def _before(self, name: str) -> Spent:
        """What deleted studies of this name were charged. Raises StoreError."""
        try:
            return Spent.model_validate(self.documents.get(name, {}).get("before", {}))
        except ValidationError:
            raise StoreError(
                f"study {name} in the store cannot be read: before is not what was charged:"
                f" {RESTORE}"
            ) from None

    def note_spending(
        self, runs: Iterable[StudyRun], *, generation: int, counted: dict[str, int]
    ) -> None:
        """What the studies were charged up to here; ``counted``: reports of each of our chains."""
        charged = {
            run.name: Spent(
                worker_seconds=run.worker_seconds + self._before(run.name).worker_seconds,
                steps_trained=run.steps_trained + self._before(run.name).steps_trained,
            )
            for run in runs
        }
        self.store.write_spending(
            Spending(generation=generation, counted=counted, studies={**self.spent, **charged})
        )

    def kept_by_others(self, names: set[str]) -> Callable[[str], bool]:
        """Which stored checkpoints studies outside this run need: they are not deleted."""
        others = {name: doc for name, doc in self.documents.items() if name not in names}
        if any(read_intent(document).scope is Scope.PLAN for document in others.values()):
            return lambda key: True
        if not others:
            return lambda key: False
        try:
            holdings = build_holdings(self.store, self.records, others)
        except StoreError:  # what they want cannot be told
            return lambda key: True
        now = time.time()
        return lambda key: bool(holdings.holders(key, now))

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
