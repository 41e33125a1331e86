"""Adopts workers that outlive their driver: rebuilds chains from assignments, controls and reports.

A driver whose workers survive it (an operator with its pods) does not relaunch running work after a
restart. A chain's promises follow from its route, the newest control and the answer to it; its
position follows from its reports.
"""

from __future__ import annotations

from collections.abc import Collection

from hippo.engine.events import Adopted
from hippo.engine.state import ChainRun
from hippo.lifecycles import InvariantViolated, WorkerEvent
from hippo.model import Sequence
from hippo.plan import Claim, SearchPlan
from hippo.protocol.assignments import Control, Route
from hippo.protocol.reports import Arrived, Began, CheckpointSaved, ControlAnswered, MetricsReported


def adopt_chain(plan: SearchPlan, event: Adopted, known: Collection[str], now: float) -> ChainRun:
    """Returns the chain as the engine that launched it knew it, up to its last report.

    ``known`` are the names of all studies. The plan already contains their trials. Raises
    InvariantViolated if the chain belongs to another plan.
    """
    assignment, reports = event.assignment, event.reports
    standing, pending, leaves = _read_control(event)
    is_rerouted = pending is not None and not leaves
    base = pending.route if pending is not None and is_rerouted else standing
    seed = None if assignment.signature == plan.signature else assignment.trainer.seed
    node = plan.insert(Sequence.of(base.hyperparameters, base.steps), seed=seed)
    if node.signature != assignment.signature:
        raise InvariantViolated(f"chain {assignment.chain} belongs to another plan")
    position = max((report.step for report in reports), default=assignment.start)
    is_at_end = bool(reports) and isinstance(reports[-1], Arrived)
    confirmed = base if is_at_end else standing
    evaluated = {r.step for r in reports if isinstance(r, MetricsReported)}
    saved = {r.step for r in reports if isinstance(r, CheckpointSaved)}
    evaluations = {s for s in base.evaluate_at if s >= position} - evaluated
    saves = {s for s in base.save_at if s >= position} - saved
    claim = Claim(
        name=assignment.chain,
        node=node,
        start=assignment.start,
        stop_at=base.stop_at,
        evaluate_at=evaluations & set(confirmed.evaluate_at),
        save_at=saves & {*confirmed.save_at, base.stop_at},
        position=position,
        open_to_more=not leaves,
    )
    claim.asked_evaluate = evaluations - claim.evaluate_at
    claim.asked_save = saves - claim.save_at
    first = min(assignment.start + 1, base.stop_at)
    chain = ChainRun(
        name=assignment.chain,
        study=event.study,
        studies=tuple(name for name in assignment.studies if name in known) or (event.study,),
        claim=claim,
        route=standing,
        origin=node.at(first).key(first),
        origin_step=assignment.start,
        launched=now,
        begun=any(isinstance(report, Began) for report in reports),
        step=position,
        step_time=now,
        version=event.control.version if event.control is not None else 0,
        pending=pending,
        accounted=now,
    )
    if reports:
        last = reports[-1]
        chain.trained, chain.train_seconds = last.trained, last.train_seconds
        chain.worker_seconds = last.worker_seconds
    if chain.begun:
        chain.take(WorkerEvent.BEGAN)
    if is_at_end:
        chain.take(WorkerEvent.ARRIVED)
        if is_rerouted:
            chain.take(WorkerEvent.REROUTED)
    if leaves:
        chain.take(WorkerEvent.TOLD_TO_STOP)
    if assignment.start and not saved:
        checkpoint = node.at(assignment.start).checkpoints.get(assignment.start)
        if checkpoint is not None:
            checkpoint.pins.add(("chain", chain.name))
            chain.pin = checkpoint
    return chain


def _read_control(event: Adopted) -> tuple[Route, Control | None, bool]:
    """Returns the accepted route, the unanswered control if any, and whether the chain must stop.

    If it must stop, the route is the previous one, whose promises hold until it has exited.
    """
    route, control = event.assignment.route, event.control
    if control is None:
        return route, None, False
    before = control.standing or route
    answers = {r.version: r.accepted for r in event.reports if isinstance(r, ControlAnswered)}
    pending = control if control.version not in answers else None
    if control.route.stop_at == 0:
        return before, pending, pending is not None or answers[control.version]
    return control.route if answers.get(control.version) else before, pending, False
