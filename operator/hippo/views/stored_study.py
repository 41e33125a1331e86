"""A study as its store describes it: its decisions, its results, and what is left to do.

Decisions and results are replayed into an engine without workers whose study is suspended, so
nothing is decided, written or deleted. Only reads, so it needs no lock.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hippo.engine import Engine
from hippo.engine.options import EngineOptions
from hippo.engine.state import StudyRun, TrialRun
from hippo.lifecycles import TrialState
from hippo.model import InvalidSpec, Optuna, Random, Study, parse_study, signature
from hippo.plan import SearchPlan, Stage, build_stage_tree
from hippo.protocol.reports import Arrived, Began, CheckpointSaved, Ended, MetricsReported, Report
from hippo.session.charges import settle
from hippo.session.session import Session
from hippo.store import (
    Blobs,
    LockHeld,
    PlanLock,
    PlanRecords,
    PlanStore,
    StoredStudy,
    StoreError,
    reading,
)


@dataclass(frozen=True, slots=True)
class Store:
    """A store that exists, or may exist: an object store is only accessed when used."""

    url: str
    blobs: Blobs


@dataclass(frozen=True, slots=True)
class Named:
    """A study named on the command line, and every plan of the store with a study of that name."""

    name: str
    namespace: str
    store: Store
    found: list[StoredStudy]  # not empty; the most recently updated first


@dataclass(slots=True)
class Replayed:
    """A stored study, replayed into an engine."""

    study: Study
    engine: Engine
    run: StudyRun
    store: PlanStore
    records: PlanRecords
    merge: bool
    is_deleted: bool
    in_use: str | None  # by whom, in words; None: no driver uses its plan now

    @property
    def phase(self) -> str:
        if self.run.state.is_final:
            return str(self.run.state)
        return "Suspended" if self.study.spec.suspend else "Running"


def replay(named: Named) -> Replayed:
    """Replays the study, the most recently updated if there are several.

    Raises StoreError, InvalidSpec.
    """
    found = named.found[0]
    store = PlanStore(named.store.blobs, found.plan)
    records = store.load()
    if records.signature is None:
        raise StoreError(f"plan {found.plan}: its plan.json is missing or damaged")
    document = {key: value for key, value in found.document.items() if key != "deleted"}
    spent = settle(store.read_spending(), records.reports)
    name = signature(records.signature)
    session = Session(store, name, records, spent, {named.name: document})
    study = parse_study(document["study"])
    event = session.admit(study, uid=document.get("uid"))
    merge = records.signature.get("merge") is not False
    engine = Engine(
        session.build_plan(),
        EngineOptions(merge=merge),
        costs=session.build_costs(),
        kept=lambda key: True,
    )
    resting = dataclasses.replace(event, study=_at_rest(event.study), more_follow=True)
    with reading(f"study {named.name} in the store"):
        engine.handle(resting, 0.0)
    run = engine.studies[named.name]
    in_use = _find_user(store)
    return Replayed(study, engine, run, store, records, merge, found.is_deleted, in_use)


def identity_to_json(replayed: Replayed) -> dict[str, Any]:
    """Returns the fields with which the documents of ``hippo results`` and ``hippo tree`` begin."""
    return {
        "study": replayed.study.name,
        "namespace": replayed.study.namespace,
        "plan": replayed.store.plan.partition("/")[2],
        "phase": replayed.phase,
        "isDeleted": replayed.is_deleted,
        "inUse": replayed.in_use,
    }


def find_trial(replayed: Replayed, wanted: str, path: str) -> TrialRun:
    """Returns a trial by its name or number. Raises InvalidSpec with ``path``."""
    study = replayed.study.name
    name = f"{study}-{wanted}" if wanted.isdecimal() else wanted
    known = {trial.name: trial for trial in replayed.run.trials}
    if name in known:
        return known[name]
    last = len(known) - 1
    there = f"they are {study}-0 to {study}-{last}" if known else "there is none yet"
    meant = f"{study}-{wanted.rpartition('-')[2]}"
    hint = f"; did you mean {meant}?" if meant in known else ""
    raise InvalidSpec.at(path, f"{study} has no trial {wanted!r}: {there}{hint}")


def _at_rest(study: Study) -> Study:
    """Returns the study suspended, so that its tuner is not asked; a dummy replaces Optuna."""
    changes: dict[str, object] = {"suspend": True}
    algorithm = study.spec.algorithm
    if isinstance(algorithm, Optuna):  # may not be installed where results are only read
        changes["algorithm"] = Random(name="random", seed=algorithm.seed)
    return study.model_copy(update={"spec": study.spec.model_copy(update=changes)})


def _find_user(store: PlanStore) -> str | None:
    try:
        PlanLock(store).check()
    except LockHeld as error:
        return error.by
    return None


# -- the stage tree --------------------------------------------------------------------------------


class StageState(StrEnum):
    DONE = "Done"
    RUNNING = "Running"
    PENDING = "Pending"
    FAILED = "Failed"


@dataclass(slots=True)
class StoredTree:
    """All stages of a study, parents first, with the state of each by its key."""

    stages: list[Stage]
    states: dict[str, StageState] = field(default_factory=dict)
    stored: frozenset[str] = frozenset()  # keys of stages whose end is stored
    positions: dict[str, int] = field(default_factory=dict)
    """The last step of each running stage that a worker is known to have trained."""
    beyond: Counter[str] = field(default_factory=Counter)
    """Workers that continued from a stage into one of several children; reports do not say
    which."""
    workers: int = 0  # active for the study


def build_stored_tree(replayed: Replayed) -> StoredTree:
    """Returns the tree of everything that the study's trials requested, trained or not."""
    stages = _build_stages(replayed)
    keys = {stage.key for stage in stages}
    records = replayed.records
    known = {
        report.key
        for reports in records.reports.values()
        for report in reports
        if isinstance(report, MetricsReported)
    }
    done = (known | records.manifests.keys()) & keys
    for stage in reversed(stages):  # if a later stage was trained, so were the earlier ones
        if stage.key in done and stage.parent is not None:
            done.add(stage.parent)
    tree = StoredTree(stages, stored=frozenset(records.manifests.keys() & keys))
    failed = {
        trial.node.at(trial.target).key(trial.target)
        for trial in replayed.run.trials
        if trial.state is TrialState.FAILED
    }
    for stage in stages:
        is_failed = stage.key in failed and stage.key not in done
        tree.states[stage.key] = (
            StageState.DONE
            if stage.key in done
            else StageState.FAILED
            if is_failed
            else StageState.PENDING
        )
    if replayed.in_use is not None:
        _find_workers(tree, replayed)
    return tree


def _build_stages(replayed: Replayed) -> list[Stage]:
    plan = SearchPlan(replayed.engine.plan.signature)
    run = replayed.run
    for trial in run.trials:
        apart = "" if replayed.merge else trial.name
        node = plan.insert(trial.sequence, apart=apart, seed=trial.seed)
        for step in _asked(trial):
            plan.want(node, step, trial.id, run.lead)
    return build_stage_tree(plan)


def _asked(trial: TrialRun) -> set[int]:
    """Returns the steps at which stages of a trial end; marks cut no stages."""
    steps = set(trial.results) - set(trial.marks)
    if not trial.state.is_final or trial.state is TrialState.FAILED:
        steps.add(trial.target)
    return steps


def _find_workers(tree: StoredTree, replayed: Replayed) -> None:
    """Locates workers by their reports: a report names a place only if something is left there."""
    following: defaultdict[str | None, list[Stage]] = defaultdict(list)
    for stage in tree.stages:
        if tree.states[stage.key] is not StageState.DONE:
            following[stage.parent].append(stage)
    for reports in replayed.records.reports.values():
        if not _is_at_work(reports, replayed.run.name):
            continue
        tree.workers += 1
        place = _locate(tree, reports)
        if place is None:
            continue
        inside, passed = place
        if inside is None and len(following[passed]) == 1:
            inside = following[passed][0]
        if inside is not None:
            tree.states[inside.key] = StageState.RUNNING
            step = max(inside.start, *(report.step for report in reports))
            tree.positions[inside.key] = max(step, tree.positions.get(inside.key, 0))
        elif passed is not None and following[passed]:
            tree.beyond[passed] += 1


def _is_at_work(reports: list[Report], study: str) -> bool:
    began, last = reports[0], reports[-1]
    return (
        isinstance(began, Began)
        and study in began.studies
        and not isinstance(last, Ended | Arrived)
    )


def _locate(tree: StoredTree, reports: Iterable[Report]) -> tuple[Stage | None, str | None] | None:
    """Returns (stage, key): the stage a worker is known to be in, or the key of the one before it.

    Both are None at the root. Returns None if its place is unknown.
    """
    place: tuple[Stage | None, str | None] | None = None
    for report in reports:
        if isinstance(report, Began):
            ends = [s.key for s in tree.stages if s.end == report.step and s.key in tree.stored]
            if report.step == 0:
                place = None, None
            elif len(ends) == 1:
                place = None, ends[0]
        if not isinstance(report, CheckpointSaved | MetricsReported):
            continue
        if report.key in tree.states:
            place = None, report.key
            continue
        for stage in tree.stages:
            if (
                stage.start < report.step < stage.end
                and tree.states[stage.key] is not StageState.DONE
                and stage.node.key(report.step) == report.key
            ):
                place = stage, None
    return place


def find_chains(replayed: Replayed, trial: TrialRun) -> set[str]:
    """Returns the chains that trained a trial, including the part it shares with others."""
    keys: dict[int, str] = {}
    found = set()
    for chain, reports in replayed.records.reports.items():
        for report in reports:
            if not isinstance(report, CheckpointSaved | MetricsReported):
                continue
            step = report.step
            if step not in keys and step <= trial.target:
                keys[step] = trial.node.at(step).key(step)
            if keys.get(step) == report.key:
                found.add(chain)
    return found
