"""A plan's records and the documents of its studies: read at the start, then kept up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hippo.engine.events import StudyAdded
from hippo.engine.reopening import Advice, Verdict, reconsider, tell_reason
from hippo.engine.reopening import Spending as TimeSpent
from hippo.engine.state import StudyRun
from hippo.gc import Scope, build_inventory, read_intent
from hippo.lifecycles import End, EndReason, InvariantViolated, StudyState, TrialState
from hippo.model import (
    InvalidSpec,
    Study,
    editable_changes,
    parse_study,
    signature,
)
from hippo.plan import CostModel, SearchPlan
from hippo.plan.restore import build_costs, build_plan
from hippo.protocol.decisions import Decision
from hippo.protocol.records import Spending, Spent
from hippo.protocol.reports import MetricsReported
from hippo.session.charges import settle
from hippo.store import (
    RESTORE,
    PlanRecords,
    PlanStore,
    StoreError,
    Unreadable,
    find_studies,
    reading,
)

_OF_AN_END = ("state", "message", "end")


def _read_end(status: dict[str, Any]) -> End:
    """Read from a study's status how it ended."""
    message = str(status.get("message", ""))
    written = (status.get("end") or {}).get("reason")
    known = {reason.value: reason for reason in EndReason}
    reason = tell_reason(message) if written is None else known.get(written)
    return End(StudyState(status["state"]), message, reason)


@dataclass(slots=True)
class Session:
    """A plan of the store as it was when the run began, and the current documents of its
    studies.
    """

    store: PlanStore
    signature: str
    records: PlanRecords
    spent: dict[str, Spent] = field(default_factory=dict)  # of all studies, when the run began
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)  # of all studies, by name
    unreadable: dict[str, str] = field(
        default_factory=dict
    )  # studies with damaged records, and why
    forgotten: set[str] = field(default_factory=set)  # deleted studies that have begun anew
    clock: Callable[[], float] = time.time  # gives Unix time

    @classmethod
    def open(
        cls, store: PlanStore, document: dict[str, Any], clock: Callable[[], float] = time.time
    ) -> Session:
        """Read the plan, whose lock the caller holds. Raises StoreError."""
        store.initialise(document)
        records = store.load()
        spent = settle(store.read_spending(), records.reports)
        session = cls(store, signature(document), records, spent, clock=clock)
        for name in store.list_studies():
            try:
                session.documents[name] = store.read_study(name)
            except Unreadable as error:
                session.unreadable[name] = f"{error}: {RESTORE}"
        return session

    def build_plan(self) -> SearchPlan:
        """Build a search plan that contains every checkpoint and result of the store."""
        return build_plan(self.signature, self.records.manifests, self.records.reports)

    def build_costs(self) -> CostModel:
        """Build estimates from the measurements of earlier runs."""
        return build_costs(self.records.reports)

    def admit(self, study: Study, *, uid: str | None = None) -> StudyAdded:
        """Return the event that adds a study, with everything that the store has of it.

        ``uid``: of its object in a cluster; another uid means another study of that name. Raises
        InvalidSpec if a field changed that may not; Unreadable if the study's own records are
        damaged, which does not affect other studies.
        """
        if study.name in self.unreadable:
            raise Unreadable(self.unreadable[study.name])
        known = self.documents.get(study.name)
        is_another = uid is not None and known is not None and known.get("uid") != uid
        if known is not None and (known.get("deleted") is not None or is_another):
            # Another study of that name reuses the results, and nothing else.
            self.store.delete_study(study.name)
            del self.documents[study.name]
            self.forgotten.add(study.name)
            known = None
        if known is None:
            return StudyAdded(study)
        status = known.get("status") or {}
        # A damaged record may mean lost results; if none are lost, the study ends again at once.
        has_ended = bool(status.get("state")) and not self.records.problems
        stored = self._parse(known["study"], study.name)
        try:
            mended = self._mend(stored, study)
            is_edited = bool(editable_changes(mended, study))
            if has_ended:
                study = mended  # keeps its limits until ``reconsider`` decides otherwise
            if mended is not stored or (is_edited and not has_ended):
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
            ended=_read_end(status) if has_ended else None,
        )

    def _mend(self, stored: Study, study: Study) -> Study:
        """Return the stored study with the new one's metrics, as far as no result of the plan
        has the stored one's, so that no trial was ever compared by it.
        """
        before, after = stored.spec.objective, study.spec.objective
        if (before.metric, before.test_metric) == (after.metric, after.test_metric):
            return stored
        returned = {name for report in self._results() for name in report.metrics}
        if before.metric != after.metric and before.metric in returned:
            raise InvalidSpec.at(
                "spec.objective.metric",
                f"may not change once results have it (it was {before.metric!r}); make another"
                " study instead: it reuses all of them",
            )
        if before.test_metric != after.test_metric and before.test_metric in returned:
            raise InvalidSpec.at(
                "spec.objective.testMetric",
                f"may not change once results have it (it was {before.test_metric!r}); make another"
                " study instead: it reuses all of them",
            )
        names = {"metric": after.metric, "test_metric": after.test_metric}
        objective = before.model_copy(update=names)
        spec = stored.spec.model_copy(update={"objective": objective})
        return stored.model_copy(update={"spec": spec})

    def _results(self) -> Iterator[MetricsReported]:
        for reports in self.records.reports.values():
            yield from (report for report in reports if isinstance(report, MetricsReported))

    def reconsider(
        self,
        event: StudyAdded,
        study: Study,
        *,
        decisions: tuple[Decision, ...],
        retry: bool,
        advice: Advice,
    ) -> Verdict | None:
        """Return whether an admitted study resumes after its end, or retries failed trials; None if
        it is new. ``study``: as it is written now.

        Record the verdict's decisions, then call :meth:`reopen`. Raises InvalidSpec; Unreadable if
        the decisions contradict the study.
        """
        known = self.documents.get(study.name)
        if known is None:
            return None
        status = known.get("status") or {}  # has the end even if lost results are computed again
        end = _read_end(status) if status.get("state") else None
        before = self._parse(known["study"], study.name)
        time_spent = TimeSpent(event.worker_seconds, event.wall_seconds)
        try:
            return reconsider(
                study,
                decisions,
                end,
                before=before,
                spent=time_spent,
                retry=retry,
                advice=advice,
            )
        except InvalidSpec:
            raise
        except (ValueError, LookupError, InvariantViolated) as error:
            reason = " ".join(str(error).split())
            raise Unreadable(
                f"the decisions of study {study.name} cannot be followed: {reason}: {RESTORE}"
            ) from error

    def reopen(
        self,
        event: StudyAdded,
        study: Study,
        decisions: tuple[Decision, ...],
        *,
        retried: str | None = None,
    ) -> StudyAdded:
        """Record that a study resumes, once all its decisions are recorded. ``retried``: the
        retry request that this fulfils. Raises StoreError.
        """
        known = self.documents[study.name]
        status = {n: v for n, v in (known.get("status") or {}).items() if n not in _OF_AN_END}
        document = {**known, "status": status}
        if retried is not None:
            document["retried"] = retried
        self._rewrite(study, document)
        return replace(event, study=study, decisions=decisions, reopened=event.ended is not None)

    @staticmethod
    def _parse(document: dict[str, Any], name: str) -> Study:
        try:
            return parse_study(document)
        except InvalidSpec as error:
            reason = str(error).splitlines()[0]
            raise Unreadable(
                f"study {name} in the store cannot be read: {reason}: {RESTORE}"
            ) from None

    def note_retried(self, name: str, wish: str) -> None:
        """Record that a request to retry failed trials was fulfilled. Raises StoreError."""
        document = {**self.documents[name], "retried": wish}
        self.store.write_study(name, document)
        self.documents[name] = document

    def write_study(
        self,
        study: Study,
        run: StudyRun | None,
        *,
        wall_seconds: float = 0.0,
        uid: str | None = None,
    ) -> None:
        """Record a study and its state, which determines what it retains in later runs too."""
        status: dict[str, Any] = {"wallSeconds": wall_seconds, "updated": self.clock()}
        if run is not None and run.state.is_final:
            status |= {"state": run.state.value, "message": run.message}
            if run.end is not None:
                status["end"] = self._describe_end(run)
        if run is not None and run.best is not None and run.best.latest is not None:
            status |= {
                "best": run.best.index,
                "bestStep": run.best.latest[0],
                "bestKey": run.best.latest_key,
            }
        known = self.documents.get(study.name)
        if known is None:  # do not charge it for an earlier study of this name
            known = {"before": self._spent(study.name).model_dump(by_alias=True)}
            if uid is not None:
                known["uid"] = uid
        self._rewrite(study, {**known, "status": status})

    def _describe_end(self, run: StudyRun) -> dict[str, Any]:
        """Describe why and under which limits a study ended, and whether trials are left to
        resume.
        """
        assert run.end is not None
        spec = run.study.spec
        known = (self.documents.get(run.name, {}).get("status") or {}).get("end") or {}
        limits = {
            "maxTrials": spec.max_trials,
            "maxFailedTrials": spec.max_failed_trials,
            "workerHours": spec.budget.worker_hours,
            "wallTime": spec.budget.wall_time,
            "target": spec.objective.target,
        }
        return {
            "reason": run.end.value,
            "limits": {name: limit for name, limit in limits.items() if limit is not None},
            "isOpen": run.end.is_early or any(t.state is TrialState.FAILED for t in run.trials),
            "at": known.get("at", self.clock()),
        }

    def rewrite_study(self, study: Study) -> None:
        """Record a study that was edited while it trains."""
        self._rewrite(study, self.documents[study.name])

    def _rewrite(self, study: Study, known: dict[str, Any]) -> None:
        """Record a study as written now, with its known status."""
        document = {
            **known,
            "study": study.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        self.store.write_study(study.name, document)
        self.documents[study.name] = document

    def _spent(self, name: str) -> Spent:
        """Return a study's charges in earlier runs, without those of deleted studies of its
        name.
        """
        spent, before = self.spent.get(name, Spent()), self._before(name)
        return Spent(
            worker_seconds=spent.worker_seconds - before.worker_seconds,
            steps_trained=spent.steps_trained - before.steps_trained,
        )

    def _before(self, name: str) -> Spent:
        """Return the charges of deleted studies of this name."""
        return Spent.model_validate(self.documents.get(name, {}).get("before", {}))

    def note_spending(
        self, runs: Iterable[StudyRun], *, generation: int, counted: dict[str, int]
    ) -> None:
        """Record the charges so far. ``counted``: reports read of each chain of this run."""
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
        """Return which stored checkpoints studies outside this run need, and must not be
        deleted.
        """
        others = {name: doc for name, doc in self.documents.items() if name not in names}
        if self.unreadable:  # what they want cannot be told
            return lambda key: True
        if any(read_intent(document).scope is Scope.PLAN for document in others.values()):
            return lambda key: True
        if not others:
            return lambda key: False
        try:
            with reading(f"plan {self.store.plan}"):
                inventory = build_inventory(self.store, self.records, others)
        except StoreError:  # what they want cannot be told
            return lambda key: True
        now = self.clock()
        return lambda key: bool(inventory.holders(key, now))

    def differences_to_earlier(self, name: str) -> list[str]:
        """Return the trainer's fields that changed since a study, new here, was worked on in
        another plan; empty if it was not.
        """
        try:
            namespace = self.store.plan.partition("/")[0]
            earlier = find_studies(self.store.blobs, name, namespace)
            if not earlier or earlier[0].is_deleted:
                return []
            before = PlanStore(self.store.blobs, earlier[0].plan).read_signature() or {}
            now = self.store.read_signature() or {}
        except StoreError:  # damaged, or written by a newer Hippo
            return []
        names = sorted({*before, *now})
        return [name for name in names if before.get(name) != now.get(name) and name != "merge"]
