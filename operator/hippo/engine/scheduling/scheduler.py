"""Who trains what: launches, steers, continues, stops and yields chains.

Workers are divided among studies by priority, then by fair share: of equal studies the one that
holds the fewest gets the next. Within a study the longest remaining path goes first. A chain goes
on in place where it can; it yields at a step end only to a path that has become critical (least
laxity), or to a study that has a better right to its worker.

What ``parallelism`` allows is for ``lending.py`` to say. It limits who gets a further worker. A
swap within a study, or within a closed group of studies at their limits, takes none: a chain that
yields, or has arrived, makes place for another of its own group, whoever else may or may not have
more. So a study whose limit is the number of workers is treated as one without a limit, and one
with fewer as if there were so many workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from hippo.engine.events import Command, Launch, Steer, WakeAt
from hippo.engine.reopening import LOCAL, Advice
from hippo.engine.scheduling.aging import Patience
from hippo.engine.scheduling.laxity import Laxity
from hippo.engine.scheduling.parallelism import Group, Lending
from hippo.engine.scheduling.queueing import Queue
from hippo.engine.scheduling.worker_pool import Workforce
from hippo.engine.state import ChainRun, StudyRun
from hippo.lifecycles import WorkerEvent, WorkerState
from hippo.plan import NO_WORK, Claim, CostModel, Frontier, Head, Node, Pool, SearchPlan, Turn
from hippo.protocol.assignments import (
    TIMED_ASSIGNMENT_VERSION,
    Assignment,
    Control,
    Route,
    TrainerCall,
)
from hippo.protocol.records import FORMAT_VERSION
from hippo.protocol.reports import ControlAnswered

CHEAP_SAVE_SECONDS = 1.0
"""A save below this is always worth it at a possible fork, however little it would take to
recompute.
"""

GRACE_MARGIN_SECONDS = 30.0
LEAST_GRACE_SECONDS = 60.0
"""Grace = clamp(step + save + margin, least, the trainer's maxGrace)."""

MIN_PAUSE_SECONDS = 0.05
MIN_PAUSE_STEPS = 0.25
"""Yielding is considered no more often than this."""

WORTH_SWITCHES = 10.0
"""A chain is made to leave for another study only if it would go on for longer than this many
times what the switch costs.
"""


UNKNOWN_SECONDS = 30.0
"""The same where no step was reported yet, of the time that a chain has been at work."""

May = Callable[[str], bool]
"""Whether a study may have the worker in question."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What differs between drivers. Times in seconds."""

    chain_prefix: str = "c"  # makes chain names unique among all runs over the same store
    merge: bool = True  # False: trial by trial, for comparison
    linger: float = 0.0  # how long a worker waits at its end for another route
    poll: float = 0.1  # how often a worker looks at its control object
    window: int | None = None  # most trials of a study under way at once; None: all
    longest_route: int | None = None  # most saves and evaluations of a route; None: any number
    default_parallelism: int | None = None  # of studies that do not say; None: any number
    keeps_foreign: bool = False  # checkpoints that a worker refuses stay: another may take them
    retry_pause: float = 1.0  # before the first retry; doubles each time
    longest_pause: float = 300.0
    outlasts_store: bool = False  # however often the store fails workers, the engine never halts
    patience: float = 3600.0  # after which a study without a worker goes first, see ``Patience``
    advice: Advice = LOCAL  # what users do to let a study go on


class Dispatcher:
    """Keeps workers busy. Owns nothing: plan, frontier, studies and chains are the engine's."""

    def __init__(
        self,
        plan: SearchPlan,
        frontier: Frontier,
        costs: CostModel,
        studies: dict[str, StudyRun],
        workforce: Workforce,
        options: EngineOptions,
    ) -> None:
        self._plan = plan
        self._frontier = frontier
        self._costs = costs
        self._studies = studies
        self._workforce = workforce
        self._chains = workforce.chains
        self._options = options
        self._lending = Lending(workforce, studies, self.asking_from, options.default_parallelism)
        self._laxity = Laxity(frontier, workforce, costs, self._lending)
        self._patience = Patience(workforce, studies, options.patience)
        self._queue = Queue(studies, workforce, self._patience)
        self._launched = 0
        self._wakes_at = 0.0  # the next look at who might yield, if it lies ahead
        self._patient_until = math.inf  # likewise, at who has waited too long
        self._queue_until = math.inf  # likewise, at launched workers that wait for room
        self._doubtful: set[Claim] = set()  # something they promised is no longer wanted
        self._commands: list[Command] = []
        self._now = 0.0
        self._workers = 0

    def look(self, now: float, workers: int) -> None:
        """Heed the time, the workers that there may be, and how many of them studies may have."""
        self._now, self._workers = now, workers
        self._laxity.look(now)
        self._lending.look(workers)

    def hand_out_work(self, now: float, workers: int) -> list[Command]:
        """Give every worker the best there is to do; returns the commands."""
        self._commands = []
        self.look(now, workers)
        frontier = self._frontier
        for claim in sorted(self._doubtful, key=lambda claim: claim.name):
            self._trim(claim)
        self._doubtful.clear()
        frontier.refresh(now)
        self._patience.look(now)
        self._keep_within_limits()
        self._queue.look(now)
        self._take_back()
        for chain in list(self._workforce.arrived.values()):
            if self.is_waiting(chain):
                self._continue_or_release(chain)
        while len(self._chains) < workers:
            found = self._next(self._lending.may_have_another)
            if found is None:
                break
            self._launch(*found)
            frontier.refresh(now)
        self._ask()
        self._consider_yielding()
        self._make_room_for_queued()
        if 0 < workers <= len(self._chains) or self._workforce.queued:
            self._patient_until = self._wake_at(self._patience.next_look(), self._patient_until)
        self._queue_until = self._wake_at(self._queue.next_look(), self._queue_until)
        return self._commands

    def reconsider(self, claims: Iterable[Claim]) -> None:
        """Something on the way of these chains is no longer wanted."""
        self._doubtful.update(claims)

    @staticmethod
    def is_waiting(chain: ChainRun) -> bool:
        """At the end of its route, and not told yet what to do next."""
        return chain.state is WorkerState.ARRIVED and chain.pending is None

    def is_overdue(self, study: str) -> bool:
        """Whether it has been without a worker for so long that the next one is its own."""
        return self._patience.is_overdue(study)

    def count_room(self, study: str) -> int:
        """So many workers a study may have besides those that it lends and that train for it."""
        if not self._studies[study].is_active:
            return 0
        arrived = self._workforce.arrived.values()
        waiting = sum(1 for c in arrived if c.study == study and self.is_waiting(c))
        return max(self._lending.room(study), self._lending.may_have_another(study)) + waiting

    def _standing(self, study: str, *, without: ChainRun | None = None) -> Turn:
        held = self._workforce.held(study)
        if without is not None and study in without.studies:
            held -= 1 / len(without.studies)
        return self._patience.rank(study), held

    def _turn(self, may: May) -> tuple[Head, str] | None:
        """Whose turn it is, by priority, then who holds the fewest; and the longest of its paths.

        ``may``: which studies may have the worker in question.
        """
        return self._frontier.best(
            lambda s: self._standing(s) if may(s) and not self._queue.is_behind(s) else None,
            self._weigh,
        )

    def _next(self, may: May) -> tuple[Head, str] | None:
        """What to begin next, and for whom: a path of the study whose turn it is.

        But one that cannot wait goes first, whoever's it is among equals: fair shares divide what
        can, and would else make all studies end later.
        """
        best = self._turn(may)
        if best is None or len(self._frontier.ready_of) < 2:
            return best
        longest = self._rightful(may)
        assert longest is not None
        return longest if self._laxity.is_critical(self._laxity.level(longest[0])) else best

    def _rightful(self, may: May) -> tuple[Head, str] | None:
        """The longest path of those with the best right, by priority alone."""
        rank, is_behind = self._patience.rank, self._queue.is_behind
        return self._frontier.best(
            lambda s: (rank(s),) if may(s) and not is_behind(s) else None, self._weigh
        )

    def _weigh(self, pool: Pool) -> tuple[float, ...]:
        """The longest first; where limits make them equally long, what the fewest could begin."""
        if not self._lending.limits:
            return ()
        return -self._laxity.level(pool.best), len(pool.studies)

    # -- launching and continuing ------------------------------------------------------------------

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
        return claim, _route(claim, evaluations, saves)

    def _possible_needs(self, node: Node, start: int, stop_at: int, saves: set[int]) -> set[int]:
        """What may come to be needed of this path, where saving costs less than training again."""
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

    def _launch(self, head: Head, lender: str) -> None:
        self._launched += 1
        name = f"{self._options.chain_prefix}-{self._launched:05d}"
        claim, route = self._plan_route(head, name)
        lead = self._studies[lender]
        studies = self._asking(head)
        start_node = head.node.at(head.start) if head.start else self._plan.root
        checkpoint = start_node.checkpoints[head.start] if head.start else None
        first = min(head.start + 1, claim.stop_at)
        chain = ChainRun(
            name=name,
            study=lead.name,
            studies=studies,
            claim=claim,
            route=route,
            origin=claim.node.at(first).key(first),
            origin_step=head.start,
            launched=self._now,
            step=head.start,
            step_time=self._now,
            pin=checkpoint,
        )
        if checkpoint is not None:
            checkpoint.pins.add(("chain", name))
        self._patience.launched(name, lender, studies)
        self._lending.make_room(lender)
        self._workforce.add(chain)
        self._workforce.note_askers(chain, studies)
        self._frontier.claim(claim)
        trainer = lead.study.spec.trainer
        every = [self._studies[study].study.spec.checkpoints.every_seconds for study in studies]
        limit = trainer.step_timeout_seconds
        assignment = Assignment(
            format_version=FORMAT_VERSION if limit is None else TIMED_ASSIGNMENT_VERSION,
            chain=name,
            signature=claim.node.signature,
            trainer=TrainerCall(
                entrypoint=trainer.entrypoint,
                config=trainer.config,
                seed=trainer.seed if claim.node.seed is None else claim.node.seed,
                threads=trainer.threads,
            ),
            route=route,
            start=head.start,
            start_key=checkpoint.key if checkpoint is not None else None,
            save_every_seconds=min(every),
            poll_seconds=self._options.poll,
            linger_seconds=self._options.linger,
            grace_seconds=self._grace(trainer.max_grace_seconds),
            exactness=trainer.exactness,
            studies=studies,
            step_timeout_seconds=limit,
        )
        self._commands.append(Launch(assignment, lead.name))

    def _grace(self, most: float) -> float:
        """Seconds that a worker has to end its step and save, once it is told to leave."""
        costs = self._costs
        needed = costs.mean_step + costs.overheads.save + GRACE_MARGIN_SECONDS
        return min(max(needed, LEAST_GRACE_SECONDS), most)

    def _asking(self, head: Head) -> tuple[str, ...]:
        """The studies that ask for what begins here, and share its cost."""
        return self._active(name for _, _, name in head.demand.leads)

    def asking_beyond(self, claim: Claim, step: int) -> tuple[str, ...]:
        """The studies that ask for anything after ``step`` on a chain's way, or behind it."""
        names: set[str] = set()
        for node in claim.nodes():
            if node.end <= step:
                break
            names.update(_asking_in(node, step + 1))
            if node.demanding is not None and node.end <= claim.stop_at:
                names.update(study for _, _, study in node.demanding.leads)
        return self._active(names)

    def asking_from(self, claim: Claim, step: int) -> tuple[str, ...]:
        """Likewise, or for what is still due at ``step``, or what a next route may lead to."""
        names: set[str] = set()
        for node in claim.nodes():
            if node.end < step:
                break
            names.update(_asking_in(node, step))
            is_due = node.end > step or node.end not in node.checkpoints
            if node.demanding is not None and (is_due or step == claim.stop_at):
                names.update(study for _, _, study in node.demanding.leads)
        return self._active(names)

    def _active(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({name for name in names if self._studies[name].is_active}))

    def _continue_or_release(self, chain: ChainRun) -> None:
        """A worker has arrived: give it what begins right there, unless others are in more need."""
        if self._queue.is_to_make_room(chain):
            self._stop(chain, save=True)
            return
        frontier = self._frontier
        here = self._head_at(chain)
        best = self._next(partial(self._lending.may_have_another, without=chain))
        if here is None or len(self._chains) > self._workers:
            self._stop(chain, save=True)
            return
        head, lender = here
        if best is not None and self._has_better_right(best, here, chain):
            self._stop(chain, save=True)
            return
        frontier.release(chain.claim)
        claim, route = self._plan_route(head, chain.name)
        claim.refused = set(chain.claim.refused)
        chain.claim = claim
        self._lending.hand_over(chain, lender, self._asking(head))
        self._workforce.note_askers(chain, chain.studies)
        frontier.claim(claim)
        chain.take(WorkerEvent.REROUTED)
        del self._workforce.arrived[chain.name]
        self._steer(chain, route)
        frontier.refresh(self._now)

    def _has_better_right(
        self, best: tuple[Head, str], here: tuple[Head, str], chain: ChainRun
    ) -> bool:
        """Whether a waiting head is to have the worker rather than the one where it stands."""
        theirs, ours = (self._standing(study, without=chain) for _, study in (best, here))
        if theirs[0] != ours[0]:
            return theirs[0] < ours[0]
        levels = self._laxity.level(best[0]), self._laxity.level(here[0])
        if theirs[1] + 1 <= ours[1] and not self._laxity.is_critical(levels[1]):
            return True
        if levels[0] == levels[1]:  # by limits, perhaps, that both are under
            is_longer = best[0].demand.level > here[0].demand.level + self._costs.switch
        else:
            is_longer = levels[0] > levels[1] + self._costs.switch
        return is_longer and (theirs[1] <= ours[1] or self._laxity.is_critical(levels[0]))

    def _head_at(self, chain: ChainRun) -> tuple[Head, str] | None:
        """The best head that begins in the very state a waiting worker holds, and its lender."""
        step = chain.claim.stop_at
        node = chain.claim.node.at(step)
        ready = self._frontier.ready
        numbers = [child.number for child in node.children.values()] if step == node.end else []
        found = [
            (self._standing(study, without=chain), head.order, head, study)
            for n in (node.number, *numbers)
            if (head := ready.get((n, step))) is not None
            for study in self._asking(head)
            if study == chain.study or self._lending.may_have_another(study, without=chain)
        ]
        return min(found, key=lambda entry: entry[:2])[2:] if found else None

    # -- steering ----------------------------------------------------------------------------------

    def _steer(self, chain: ChainRun, route: Route) -> None:
        chain.version += 1
        control = Control(
            chain=chain.name, version=chain.version, route=route, standing=chain.route
        )
        chain.pending = control
        self._commands.append(Steer(control))

    def _ask(self) -> None:
        """Send what was newly asked of running chains; one control in flight for each."""
        for claim in sorted(self._frontier.to_steer, key=lambda claim: claim.name):
            chain = self._chains.get(claim.name)
            if chain is None or chain.claim is not claim or chain.is_leaving:
                self._frontier.to_steer.discard(claim)
            elif chain.pending is None:
                self._frontier.to_steer.discard(claim)
                evaluations = claim.evaluate_at | claim.asked_evaluate
                self._steer(chain, _route(claim, evaluations, claim.save_at | claim.asked_save))

    def note_answer(self, chain: ChainRun, answer: ControlAnswered) -> None:
        """A chain has taken or refused its newest control."""
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

    def _stop(self, chain: ChainRun, *, save: bool) -> None:
        """Tell a worker to leave at the end of the step that it is in."""
        chain.claim.open_to_more = False
        chain.take(WorkerEvent.TOLD_TO_STOP)
        self._workforce.note_leaving(chain)
        route = chain.route.model_copy(
            update={"stop_at": 0, "save_at_stop": save, "save_at": (), "evaluate_at": ()}
        )
        self._steer(chain, route)

    def _trim(self, claim: Claim) -> None:
        """Shorten, or stop, a chain whose end nobody wants any more; one partly wanted goes on."""
        chain = self._chains.get(claim.name)
        if chain is None or chain.claim is not claim or chain.is_leaving:
            return
        wanted: set[int] = set()
        is_asleep = False  # a suspended study wants it: what was trained is to be saved
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
        if not wanted:
            self._stop(chain, save=is_asleep)
        elif max(wanted) < claim.stop_at:
            self._frontier.release(claim)
            claim.stop_at = max(wanted)
            for steps in (claim.evaluate_at, claim.asked_evaluate, claim.save_at, claim.asked_save):
                steps.intersection_update({step for step in steps if step <= claim.stop_at})
            self._frontier.claim(claim)
            evaluations = claim.evaluate_at | claim.asked_evaluate
            self._steer(chain, _route(claim, evaluations, claim.save_at | claim.asked_save))

    # -- yielding ----------------------------------------------------------------------------------

    def _keep_within_limits(self) -> None:
        """Have those leave that their studies may not lend, or may lend no longer."""
        for chain in self._lending.settle(self._frontier.moved):
            self._stop(chain, save=True)
        self._frontier.moved.clear()
        while (study := self._lending.excess()) is not None:
            self._stop(self._laxity.soonest_to_stay(study), save=True)

    def _consider_yielding(self) -> None:
        """Where no worker is to be had, let the running chain with the shortest path yield to a
        waiting one that is critical: of all chains, or within a group that is at its limits.
        """
        if not self._frontier.ready or not self._costs.is_known or not self._workers:
            return
        groups: dict[Group | None, None] = {}
        if self._workers <= len(self._chains):
            groups[None] = None
        has_limits = self._lending.limits and len(self._chains) <= self._workers
        for study, run in self._studies.items() if has_limits else ():
            is_waiting = run.is_active and self._frontier.ready_of[study] > 0
            if is_waiting and (group := self._lending.closed_group(study)) is not None:
                groups[group] = None
        leaving = self._workforce.leaving_of
        for group in groups:
            if not any(leaving[study] for study in (leaving if group is None else group)):
                self._consider_yielding_within(group)

    def _consider_yielding_within(self, group: Group | None) -> None:
        """Of chains that a group lends; or of all, to studies that may have another worker."""
        costs, laxity = self._costs, self._laxity
        shortest, victim = laxity.soonest(group)
        may = partial(self._lending.may_have_another, without=victim)
        found, turn = self._next(may), self._turn(may)
        if found is None or turn is None:
            return
        if self._make_room_for(turn[1], group) or not self._options.merge:
            return  # trial by trial, none is set aside for another
        level, lender = found[0].demand.level, found[1]
        if any(
            self._studies[name].lead[0] > self._studies[lender].lead[0] for name in victim.studies
        ):
            return  # its own studies would get the worker back
        slack = laxity.slack(level, group)
        # Both shrink by a second a second: how long the path can still wait, and how long until it
        # is worth a switch.
        short = shortest + costs.switch + costs.overheads.save - level
        if slack > 0 or short >= 0:
            self._look_again(max(slack, short))
        elif shortest > costs.mean_step:  # else its worker is free in time anyway
            if self._can_leave(victim):
                self._stop(victim, save=True)
            else:
                self._look_again(0.0)

    def _look_again(self, pause: float) -> None:
        """In so many seconds, but not too soon, see again who might yield."""
        pause = max(pause, MIN_PAUSE_STEPS * self._costs.mean_step, MIN_PAUSE_SECONDS)
        if not self._now < self._wakes_at <= self._now + pause:
            self._wakes_at = self._now + pause
            self._commands.append(WakeAt(self._wakes_at))

    def _wake_at(self, moment: float, told: float) -> float:
        """Have the engine woken then, unless that was ``told`` before; returns what is told now."""
        if moment != told and moment < math.inf:
            self._commands.append(WakeAt(moment))
        return moment

    def _take_back(self) -> None:
        """Launched chains that find no room, for others of a better right: those that find none
        either, and what waits for a worker.
        """
        for chain in self._queue.find_outranked():
            self._stop(chain, save=False)
        at_work = len(self._chains) - len(self._workforce.leaving)
        if not self._workforce.queued or not 0 < self._workers <= at_work:
            return
        found = self._rightful(self._lending.may_have_another)
        if found is not None:
            last = self._queue.find_last(behind=self._patience.rank(found[1]))
            if last is not None:
                self._stop(last, save=False)

    def _make_room_for_queued(self) -> None:
        """Let a chain at work leave for a launched one of a better right that finds no room."""
        waiting = self._queue.find_neediest()
        if waiting is None:
            return
        candidates = [
            (*self._leaves_last(chain), chain)
            for chain in self._chains.values()
            if self._queue.may_take_room_of(waiting, chain)
            and self._can_leave(chain)
            and self._is_worth_leaving(chain)
        ]
        if candidates:
            self._stop(min(candidates, key=lambda entry: entry[:-1])[-1], save=True)
            self._queue.note_leaving_for(waiting)

    def _is_worth_leaving(self, chain: ChainRun) -> bool:
        """Whether a chain would go on for so long that it may be made to leave. As long as nobody
        has reported a step, nobody knows: then it has to have been at work for a while.
        """
        if not self._costs.is_known:
            return self._now - chain.step_time > UNKNOWN_SECONDS
        return self._laxity.left(chain) > self._worth_leaving()

    def _worth_leaving(self) -> float:
        """Seconds that a chain must have left to be made to leave for another study."""
        costs = self._costs
        return max(WORTH_SWITCHES * (costs.switch + costs.overheads.save), costs.mean_step)

    def _leaves_last(self, chain: ChainRun) -> tuple[float, float, float, int]:
        """Least of those that may leave: least right, most workers, soonest done."""
        rank, held = min(self._standing(study) for study in chain.studies)
        order = self._workforce.done_at(chain) if self._costs.is_known else (-chain.launched, 0)
        return (-rank, -held, *order)

    def _can_leave(self, chain: ChainRun) -> bool:
        """Whether it is at work, and has trained something, or will have by the time it leaves."""
        has_begun_a_step = chain.trained > 0 or self._now > chain.step_time
        return chain.state is WorkerState.TRAINING and chain.pending is None and has_begun_a_step

    def _make_room_for(self, lender: str, group: Group | None) -> bool:
        """Let a chain leave for a waiting study of higher priority, or of far fewer workers.

        ``group``: only one that these studies lend.
        """
        parties = self._workforce.parties
        if all(lender in studies for studies in parties):
            return False
        priority, held = self._standing(lender)
        standings = {name: self._standing(name) for studies in parties for name in studies}
        worth = self._worth_leaving()
        candidates: list[tuple[tuple[float, ...], ChainRun]] = []
        for studies, party in parties.items():
            standing = min(standings[study] for study in studies)
            is_below = standing[0] > priority
            is_far = group is None and standing[1] >= held + 2  # at limits, these are the shares
            if lender in studies or not (is_below or (standing[0] == priority and is_far)):
                continue
            for chain in party.values():
                if group is not None and chain.study not in group:
                    continue
                if is_below and self._patience.is_guarded(chain.name):
                    continue
                left = self._laxity.left(chain)
                is_vital = not is_below and self._laxity.is_vital(chain)
                if left > worth and not is_vital and self._can_leave(chain):
                    neediest_last = [-place for place in standing]
                    order = self._workforce.done_at(chain)
                    candidates.append(((not is_below, *neediest_last, *order), chain))
        if not candidates:
            return False
        _, victim = min(candidates, key=lambda entry: entry[0])
        self._stop(victim, save=True)
        return True


def _asking_in(node: Node, first: int) -> set[str]:
    """The studies that ask for metrics of a node at ``first`` or after it."""
    return {s for step, want in node.wants.items() if step >= first for s, _ in want.trials}


def _route(claim: Claim, evaluations: set[int], saves: set[int]) -> Route:
    sequence = claim.node.sequence
    return Route(
        hyperparameters=dict(sequence.hyperparameters),
        steps=sequence.steps,
        stop_at=claim.stop_at,
        save_at=tuple(sorted(saves | {claim.stop_at})),
        evaluate_at=tuple(sorted(evaluations)),
    )
