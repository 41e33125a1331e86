"""Sends controls to running chains: extended, different and shortened routes, and stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hippo.engine.commands import Command, Steer
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun
from hippo.lifecycles import WorkerEvent
from hippo.plan import NO_WORK, Claim, Frontier, SearchPlan
from hippo.protocol.assignments import Control, Route
from hippo.protocol.reports import ControlAnswered


class Steering:
    """Sends controls and handles the answers; each chain has at most one control in flight."""

    def __init__(
        self,
        plan: SearchPlan,
        frontier: Frontier,
        pool: WorkerPool,
        *,
        emit: Callable[[Command], None],
    ) -> None:
        self._plan = plan
        self._frontier = frontier
        self._pool = pool
        self._chains: Mapping[str, ChainRun] = pool.chains
        self._emit = emit
        self._doubtful: set[Claim] = set()  # claims with promises that are no longer wanted

    def send(self, chain: ChainRun, route: Route) -> None:
        """Sends a chain another route."""
        chain.version += 1
        control = Control(
            chain=chain.name, version=chain.version, route=route, standing=chain.route
        )
        chain.pending = control
        self._emit(Steer(control))

    def stop(self, chain: ChainRun, *, save: bool) -> None:
        """Tells a worker to stop at the end of its current step."""
        chain.claim.open_to_more = False
        chain.take(WorkerEvent.TOLD_TO_STOP)
        self._pool.note_leaving(chain)
        route = chain.route.model_copy(
            update={"stop_at": 0, "save_at_stop": save, "save_at": (), "evaluate_at": ()}
        )
        self.send(chain, route)

    def ask(self) -> None:
        """Sends the promises that running chains were newly asked for."""
        for claim in sorted(self._frontier.to_steer, key=lambda claim: claim.name):
            chain = self._chains.get(claim.name)
            if chain is None or chain.claim is not claim or chain.is_leaving:
                self._frontier.to_steer.discard(claim)
            elif chain.pending is None:
                self._frontier.to_steer.discard(claim)
                self.send(chain, _promised_route(claim))

    def note_answer(self, chain: ChainRun, answer: ControlAnswered) -> None:
        """Handles a chain's answer to its newest control."""
        sent, claim = chain.pending, chain.claim
        if sent is None or answer.version != sent.version:
            return
        chain.pending = None
        if answer.accepted:
            chain.route = sent.route
            taken = set(sent.route.evaluate_at) & claim.asked_evaluate
            claim.evaluate_at |= taken
            claim.asked_evaluate -= taken
            taken = set(sent.route.save_at) & claim.asked_save
            claim.save_at |= taken
            claim.asked_save -= taken
        elif not chain.is_leaving:
            asked = claim.asked_evaluate | claim.asked_save
            late = {step for step in asked if step < answer.step} or asked
            claim.refused |= late
            claim.asked_evaluate -= late
            claim.asked_save -= late
            if claim.asked_evaluate or claim.asked_save:
                self._frontier.to_steer.add(claim)
            self._plan.changed.update(claim.nodes())

    def reconsider(self, claims: Iterable[Claim]) -> None:
        """Marks chains with work on their route that is no longer wanted."""
        self._doubtful.update(claims)

    def trim_reconsidered(self) -> None:
        """Shortens or stops the chains whose ends are no longer wanted."""
        for claim in sorted(self._doubtful, key=lambda claim: claim.name):
            self._trim(claim)
        self._doubtful.clear()

    def _trim(self, claim: Claim) -> None:
        chain = self._chains.get(claim.name)
        if chain is None or chain.claim is not claim or chain.is_leaving:
            return
        wanted, is_asleep = _still_wanted(claim)
        if not wanted:
            self.stop(chain, save=is_asleep)
        elif max(wanted) < claim.stop_at:
            self._frontier.release(claim)
            claim.stop_at = max(wanted)
            for steps in (claim.evaluate_at, claim.asked_evaluate, claim.save_at, claim.asked_save):
                steps.intersection_update({step for step in steps if step <= claim.stop_at})
            self._frontier.claim(claim)
            self.send(chain, _promised_route(claim))


def _still_wanted(claim: Claim) -> tuple[set[int], bool]:
    """Returns the promised steps that active studies want, and whether a suspended study wants any.

    In the latter case, the trained steps must be saved.
    """
    wanted: set[int] = set()
    is_asleep = False
    for node in claim.nodes():
        for step, want in node.wants.items():
            if claim.promises_metrics(step):
                if want.lead[0] > NO_WORK:
                    wanted.add(step)
                else:
                    is_asleep = True
        waiting = node.demanding
        if (
            waiting is not None
            and waiting.demands
            and max(waiting.leads)[0] > NO_WORK
            and claim.promises_state(node.end)
        ):
            wanted.add(node.end)
    return wanted, is_asleep


def _promised_route(claim: Claim) -> Route:
    """Returns the route of a chain with all its promises, confirmed or asked for."""
    return build_route(
        claim, claim.evaluate_at | claim.asked_evaluate, claim.save_at | claim.asked_save
    )


def build_route(claim: Claim, evaluations: set[int], saves: set[int]) -> Route:
    """Returns the route to the end of a claim, with evaluations and saves at these steps."""
    sequence = claim.node.sequence
    return Route(
        hyperparameters=dict(sequence.hyperparameters),
        steps=sequence.steps,
        stop_at=claim.stop_at,
        save_at=tuple(sorted(saves | {claim.stop_at})),
        evaluate_at=tuple(sorted(evaluations)),
    )
