"""Decisions of a plan's studies: written to Trials first, then to the store, then acted on.

The Trials are what people see and what the cluster backs up; the store's copy is what its own
clean-up and the command line read. A crash between the two leaves decisions that only Trials have:
as far as they are without a gap they stand, and the store is given them. Behind a gap nothing was
acted on yet: such Trials are undone before anything else is decided, or they would be taken for
decisions once the gap is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from hippo.engine.state import StudyRun, TrialRun
from hippo.kube import names
from hippo.kube.client import AlreadyExists, Api, NotFound, Refused
from hippo.kube.manifests import build_trial, build_trial_spec, trial_name
from hippo.kube.resources import TRIAL, dump
from hippo.kube.status.builder import build_trial_status
from hippo.kube.status.models import TrialStatus
from hippo.kube.status.preconditions import StatusPreconditions
from hippo.lifecycles import StudyFault, TrialInTheWay
from hippo.model import InvalidSpec, Study
from hippo.model.trial import TrialSpec, parse_trial_spec
from hippo.protocol.decisions import Decision, format_of
from hippo.store import PlanStore

AT_ONCE = 16
"""Requests to the API server in flight."""

FORBIDDEN = 403
"""For want of rights, or of quota: these change."""
MOST_STATUSES = 200
"""Written in one round; the rest follows in the next."""


class TrialObjects:
    """The Trials of one study, as its decisions make them."""

    def __init__(self, api: Api, store: PlanStore, study: Study, uid: str) -> None:
        self._api = api
        self._store = store
        self._study = study
        self._uid = uid
        self._decisions: dict[int, list[Decision]] = {}  # by trial
        self._written: dict[int, tuple[Any, ...]] = {}  # what statuses were made of
        self._found: dict[int, Any] = {}  # statuses as an earlier operator left them, by trial
        self._preconditions = StatusPreconditions[int](api, TRIAL, "trial")  # by trial
        self._present: set[int] = set()  # trials whose objects exist as they should
        self.user_trials: dict[int, str | None] = {}
        """Trials that users made, by the number of the request that came of each: names of their
        objects, None once one is gone. None is made for these here."""
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def recover(self) -> tuple[Decision, ...]:
        """All decisions that stand, in order. Raises StoreError, ApiError."""
        selector = f"{names.LABEL_STUDY_UID}={self._uid}"
        found = await self._api.list(TRIAL, self._study.namespace, labels=selector)
        written: dict[int, Decision] = {}
        held: dict[int, list[Decision]] = {}
        for document in found:
            decisions = self._read_own(document)
            written.update((decision.index, decision) for decision in decisions)
            if decisions:
                held[decisions[0].trial] = decisions
                self._found[decisions[0].trial] = document.get("status")
                self._preconditions.saw(decisions[0].trial, document)
        known = await asyncio.to_thread(self._store.read_decisions, self._study.name)
        while (following := written.get(len(known))) is not None:
            await asyncio.to_thread(self._store.write_decision, self._study.name, following)
            known.append(following)
        for decision in known:
            self._decisions.setdefault(decision.trial, []).append(decision)
        self._present = {
            trial for trial, decisions in held.items() if decisions == self._decisions.get(trial)
        }
        behind = [
            trial
            for trial, decisions in held.items()
            if any(decision.index >= len(known) for decision in decisions)
        ]
        await self._undo(behind)
        return tuple(known)

    def _read_own(self, document: dict[str, Any]) -> list[Decision]:
        """Those of a Trial that this study's operator made: others may bear its labels."""
        decisions = read_decisions(document)
        is_named_so = bool(decisions) and document["metadata"]["name"] == trial_name(
            self._study.name, decisions[0].trial
        )
        return decisions if is_named_so and _is_owned_by(document, self._uid) else []

    async def _undo(self, trials: Iterable[int]) -> None:
        """Let Trials say what stands, and no more."""
        for trial in trials:
            if trial in self._decisions:
                await self._write_trial(trial)
            else:
                name = trial_name(self._study.name, trial)
                await self._api.delete(TRIAL, self._study.namespace, name)

    async def write(self, decisions: Iterable[Decision]) -> None:
        """Make decisions durable, in Trials and then in the store. Raises StoreError, ApiError."""
        decisions = list(decisions)
        for decision in decisions:
            self._decisions.setdefault(decision.trial, []).append(decision)
        trials = dict.fromkeys(decision.trial for decision in decisions)
        await self._write_trials(trials)

        def copy() -> None:
            for decision in decisions:
                self._store.write_decision(self._study.name, decision)

        await asyncio.to_thread(copy)

    async def restore(self) -> None:
        """Make Trials again that somebody has removed."""
        await self._write_trials([trial for trial in self._decisions if trial not in self._present])

    def lost(self, index: int, document: Mapping[str, Any]) -> None:
        """The object of a trial is gone, unless it was another one that this document tells of."""
        if not self._preconditions.is_outdated(index, document):
            self._forget(index)

    def _forget(self, index: int) -> None:
        """There is no object of a trial."""
        self._present.discard(index)
        self._written.pop(index, None)
        self._found.pop(index, None)
        self._preconditions.forget(index)

    async def write_statuses(self, run: StudyRun) -> bool:
        """Bring the statuses of Trials up to date, some at a time; whether all are."""
        changed = []
        for trial in run.trials:
            if trial.request in self.user_trials:
                name = self.user_trials[trial.request]
            else:
                name = trial.name if trial.index in self._present else None
            known = (trial.state, len(trial.results), trial.target, trial.reason)
            if name is not None and self._written.get(trial.index) != known:
                changed.append((trial, name, known))
        await asyncio.gather(
            *(
                self._write_status(trial, name, build_trial_status(run, trial), known)
                for trial, name, known in changed[:MOST_STATUSES]
            )
        )
        return len(changed) <= MOST_STATUSES

    async def _write_status(
        self, trial: TrialRun, name: str, status: TrialStatus, known: tuple[Any, ...]
    ) -> None:
        if self._found.pop(trial.index, None) == dump(status):
            self._written[trial.index] = known
            return
        if trial.request in self.user_trials:
            self._preconditions.forget(trial.index)  # its user's requests are answered there too
        async with self._gate:
            try:
                await self._preconditions.write(trial.index, self._study.namespace, name, status)
            except NotFound:
                if trial.request not in self.user_trials:
                    self._forget(trial.index)
                    return
        self._written[trial.index] = known

    async def _write_trials(self, trials: Iterable[int]) -> None:
        made_here = [
            trial for trial in trials if self._decisions[trial][0].request not in self.user_trials
        ]
        results = await asyncio.gather(
            *(self._write_trial(trial) for trial in made_here), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write_trial(self, index: int) -> None:
        """Raises ApiError; StudyFault if the study is to blame for it."""
        try:
            await self._put_trial(index)
        except Refused as error:
            if error.status == FORBIDDEN:
                raise
            told = f"the API server does not take its Trials: {error}"
            raise StudyFault(self._study.name, told) from error

    async def _put_trial(self, index: int) -> None:
        decisions = self._decisions[index]
        name, namespace = trial_name(self._study.name, index), self._study.namespace
        async with self._gate:
            if index in self._present:
                spec = build_trial_spec(self._study.name, decisions)
                try:
                    await self._api.patch(TRIAL, namespace, name, {"spec": spec})
                    return
                except NotFound:
                    pass
            self._forget(index)
            body = build_trial(self._study, self._uid, decisions)
            try:
                made = await self._api.create(TRIAL, namespace, body)
            except AlreadyExists:
                made = await self._replace(namespace, name, body)
            self._preconditions.saw(index, made)
        self._present.add(index)

    async def _replace(self, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Put a Trial in place of one of its name: the same, or one that was never acted on.
        Returns the one that is there then.
        """
        found = await self._api.get(TRIAL, namespace, name)
        labels = found["metadata"].get("labels") or {}
        is_ours = labels.get(names.LABEL_STUDY_UID) == self._uid and _is_owned_by(found, self._uid)
        if is_ours and read_decisions(found) == read_decisions(body):
            return found
        if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
            raise TrialInTheWay(self._study.name, name)
        await self._api.delete(TRIAL, namespace, name, uid=found["metadata"]["uid"])
        return await self._api.create(TRIAL, namespace, body)


def _is_owned_by(document: dict[str, Any], uid: str) -> bool:
    owners = document["metadata"].get("ownerReferences") or []
    return any(reference.get("uid") == uid for reference in owners)


def read_decisions(document: dict[str, Any]) -> list[Decision]:
    """The decisions that a Trial holds; none if the operator did not make it."""
    try:
        spec = parse_trial_spec(document.get("spec"))
    except InvalidSpec:
        return []
    if spec.index is None:
        return []
    try:
        return _decisions_of(spec)
    except ValidationError:
        return []


def _decisions_of(spec: TrialSpec) -> list[Decision]:
    assert spec.index is not None
    return [
        Decision(
            format_version=format_of(entry.kind),
            index=entry.index,
            kind=entry.kind,
            trial=spec.index,
            steps=entry.steps,
            hyperparameters=spec.hyperparameters if entry.kind == "suggest" else None,
            parent=spec.parent if entry.kind == "suggest" else None,
            seed=spec.seed if entry.kind == "suggest" else None,
            marks=tuple(entry.marks),
            request=entry.request,
            reason=entry.reason,
        )
        for entry in spec.decisions
    ]
