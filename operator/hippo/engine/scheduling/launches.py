"""Starts paths, in launched workers or in workers that wait at the end of their route."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hippo.engine.commands import Command, Launch
from hippo.engine.options import EngineOptions
from hippo.engine.scheduling.aging import Aging
from hippo.engine.scheduling.askers import Askers
from hippo.engine.scheduling.parallelism import Lending
from hippo.engine.scheduling.steering import Steering, build_route
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun
from hippo.lifecycles import WorkerEvent
from hippo.plan import Checkpoint, Claim, CostModel, Frontier, Head, Node, SearchPlan
from hippo.protocol.assignments import (
    TIMED_ASSIGNMENT_VERSION,
    Assignment,
    Route,
    TrainerCall,
)
from hippo.protocol.records import FORMAT_VERSION

CHEAP_SAVE_SECONDS = 1.0
"""Seconds up to which a save is always made at a possible fork, however cheap retraining is."""

GRACE_MARGIN_SECONDS = 30.0
LEAST_GRACE_SECONDS = 60.0
"""Grace period in seconds: clamp(step + save + margin, least, the trainer's maxGrace)."""


class Launches:
    """Plans routes, launches chains and reroutes them."""

    def __init__(
        self,
        plan: SearchPlan,
        frontier: Frontier,
        pool: WorkerPool,
        costs: CostModel,
        studies: Mapping[str, StudyRun],
        options: EngineOptions,
        lending: Lending,
        aging: Aging,
        askers: Askers,
        steering: Steering,
        *,
        emit: Callable[[Command], None],
    ) -> None:
        self._plan = plan
        self._frontier = frontier
        self._pool = pool
        self._costs = costs
        self._studies = studies
        self._options = options
        self._lending = lending
        self._aging = aging
        self._askers = askers
        self._steering = steering
        self._emit = emit
        self._launched = 0

    def launch(self, head: Head, lender: str, now: float) -> None:
        """Launches a worker for a path; ``lender`` lends it."""
        self._launched += 1
        name = f"{self._options.chain_prefix}-{self._launched:05d}"
        claim, route = self._plan_route(head, name)
        studies = self._askers.of_path(head)
        start_node = head.node.at(head.start) if head.start else self._plan.root
        checkpoint = start_node.checkpoints[head.start] if head.start else None
        first = min(head.start + 1, claim.stop_at)
        chain = ChainRun(
            name=name,
            study=lender,
            studies=studies,
            claim=claim,
            route=route,
            origin=claim.node.at(first).key(first),
            origin_step=head.start,
            launched=now,
            step=head.start,
            step_time=now,
            pin=checkpoint,
        )
        if checkpoint is not None:
            checkpoint.pins.add(("chain", name))
        self._aging.launched(name, lender, studies)
        self._lending.make_room(lender)
        self._pool.add(chain)
        self._pool.note_askers(chain, studies)
        self._frontier.claim(claim)
        self._emit(Launch(self._assign(chain, checkpoint), lender))

    def reroute(self, chain: ChainRun, head: Head, lender: str) -> None:
        """Starts a path in a waiting worker that holds its first state."""
        self._frontier.release(chain.claim)
        claim, route = self._plan_route(head, chain.name)
        claim.refused = set(chain.claim.refused)
        chain.claim = claim
        self._lending.hand_over(chain, lender, self._askers.of_path(head))
        self._pool.note_askers(chain, chain.studies)
        self._frontier.claim(claim)
        chain.take(WorkerEvent.REROUTED)
        del self._pool.arrived[chain.name]
        self._steering.send(chain, route)

    def _plan_route(self, head: Head, name: str) -> tuple[Claim, Route]:
        node, stop_at, evaluations, saves = self._frontier.route_of(head)
        saves |= self._possible_needs(node, head.start, stop_at, saves)
        most = self._options.longest_route
        if most is not None and len(marks := sorted(evaluations | saves)) > most:
            # The rest follows in place, as another route.
            stop_at = marks[most - 1]
            node = node.at(stop_at)
            evaluations = {step for step in evaluations if step <= stop_at}
            saves = {step for step in saves if step <= stop_at} | {stop_at}
        claim = Claim(
            name=name,
            node=node,
            start=head.start,
            stop_at=stop_at,
            evaluate_at=evaluations,
            save_at=saves,
            position=head.start,
        )
        return claim, build_route(claim, evaluations, saves)

    def _possible_needs(self, node: Node, start: int, stop_at: int, saves: set[int]) -> set[int]:
        """Returns steps whose state may be needed later and is cheaper to save than to retrain."""
        found: set[int] = set()
        for run in self._studies.values():
            needs = run.possible_needs(node)
            found.update(step for step in needs if start < step < stop_at)
        if self._costs.overheads.save <= CHEAP_SAVE_SECONDS:
            return found
        worth: set[int] = set()
        last = start
        for step in sorted(found | saves):
            redo = self._costs.seconds(node.sequence, last, step)
            if step in saves or redo > self._costs.overheads.save:
                worth.add(step)
                last = step
        return worth

    def _assign(self, chain: ChainRun, checkpoint: Checkpoint | None) -> Assignment:
        """Returns the assignment of a new chain that starts from a checkpoint, or from step 0."""
        node = chain.claim.node
        trainer = self._studies[chain.study].study.spec.trainer
        every = [
            self._studies[study].study.spec.checkpoints.every_seconds for study in chain.studies
        ]
        limit = trainer.step_timeout_seconds
        return Assignment(
            format_version=FORMAT_VERSION if limit is None else TIMED_ASSIGNMENT_VERSION,
            chain=chain.name,
            signature=node.signature,
            trainer=TrainerCall(
                entrypoint=trainer.entrypoint,
                config=trainer.config,
                seed=trainer.seed if node.seed is None else node.seed,
                threads=trainer.threads,
            ),
            route=chain.route,
            start=chain.origin_step,
            start_key=checkpoint.key if checkpoint is not None else None,
            save_every_seconds=min(every),
            poll_seconds=self._options.poll,
            linger_seconds=self._options.linger,
            grace_seconds=self._grace(trainer.max_grace_seconds),
            exactness=trainer.exactness,
            studies=chain.studies,
            step_timeout_seconds=limit,
        )

    def _grace(self, most: float) -> float:
        """Returns the seconds that a worker has to end its step and save when told to stop."""
        costs = self._costs
        needed = costs.mean_step + costs.overheads.save + GRACE_MARGIN_SECONDS
        return min(max(needed, LEAST_GRACE_SECONDS), most)
