"""Tells the engine and metrics what workers report, and how their pods end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from hippo.engine.events import Reported, WorkerGone
from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.pods.state import GONE, Cause, PodState, outcome
from hippo.kube.reconciler.context import PlanContext
from hippo.kube.reconciler.errors import CANNOT_BE
from hippo.kube.reconciler.launch_gaps import LaunchGaps
from hippo.kube.reconciler.report_reader import Pace
from hippo.kube.reconciler.version_skew import VersionSkew
from hippo.protocol.reports import Began, CheckpointSaved, Ended, Outcome, Report, WorkerError
from hippo.store import StoreError

REPORTS_AT_ONCE = 100
"""Reports fed to the engine before its commands are executed."""


class ReportIntake:
    """Takes in reports and ends of pods."""

    def __init__(
        self,
        context: PlanContext,
        gaps: LaunchGaps,
        version_skew: VersionSkew,
        *,
        studies: Mapping[str, Accepted],
        tell_workers: Callable[[], Awaitable[None]],
    ) -> None:
        """``studies``: live ones, as they come and go. ``tell_workers`` tells the engine how many
        workers there may be.
        """
        self._context = context
        self._gaps = gaps
        self._version_skew = version_skew
        self._studies = studies
        self._tell_workers = tell_workers
        self._pace = Pace()
        self.inexact: set[str] = set()
        """Studies of which a step was trained twice with different results."""

    # -- reports -----------------------------------------------------------------------------------

    async def take(self, reports: Sequence[Report]) -> None:
        """Tell the engine what workers have reported, in batches, so that what comes of a batch is
        written together. Raises StoreError for a report that cannot be.
        """
        for start in range(0, len(reports), REPORTS_AT_ONCE):
            batch = reports[start : start + REPORTS_AT_ONCE]
            for report in batch:
                await self._note(report)
            try:
                await self._context.pump.feed(*(Reported(report) for report in batch))
            except CANNOT_BE as error:  # whose report it was is found out when it is opened again
                reason = " ".join(str(error).split())
                raise StoreError(f"a worker reports what cannot be: {reason}") from error

    async def _note(self, report: Report) -> None:
        context = self._context
        context.plan.has_news = True
        place, metrics = context.identity.place, context.tools.metrics
        metrics.note_report(*place, report, self._pace.lag(report, context.tools.clock()))
        if isinstance(report, Ended):
            self._gaps.note_end(self._pace.last_step(report))
        if (seconds := self._pace.stage(report)) is not None:
            metrics.note_stage(*place, seconds)
        if isinstance(report, Began):
            await self._pin_fingerprint(report)
        if isinstance(report, CheckpointSaved) and report.differs:
            chain = context.engine.chains.get(report.chain)
            self.inexact.update(chain.studies if chain is not None else ())
            context.changes.pending = True
        if isinstance(report, Ended):
            self.note_ended(report)
        context.reports.taken(report)

    def note_ended(self, report: Ended) -> None:
        """A worker has reported its end."""
        self._context.plan.has_news = True
        self._note_over(report.chain, report.outcome, None)
        chain = self._context.engine.chains.get(report.chain)
        if chain is not None and report.outcome is Outcome.PREEMPTED:
            self._context.watch.note_preempted(report.chain, chain.study)

    async def _pin_fingerprint(self, report: Began) -> None:
        """The first worker pins the plan. One of another kind that was launched before that was
        known goes at once: no other could take what it saves.
        """
        context = self._context
        pinned, own = context.plan_object.status.fingerprint, report.fingerprint
        chain = context.engine.chains.get(report.chain)
        if not pinned:
            context.plan_object.status.fingerprint = dict(own)
        if not pinned or chain is None or all(own[n] == pinned[n] for n in own.keys() & pinned):
            return
        if context.engine.studies[chain.study].study.spec.trainer.exactness == "strict":
            await context.chains.remove(report.chain, grace_seconds=0)

    # -- pods --------------------------------------------------------------------------------------

    async def note_ends(self, over: Sequence[tuple[str, PodState | None]]) -> None:
        """Pods are over. Their last reports were written before they ended; where no end is among
        these, the pod tells how the chain ended.
        """
        if over:
            chains = [chain for chain, _ in over]
            await self.take(await self._context.reports.read_last(chains))
        for chain, state in over:
            await self._note_end(chain, state)

    async def _note_end(self, chain: str, state: PodState | None) -> None:
        context = self._context
        running = context.engine.chains.get(chain)
        if running is None:
            return
        state = state or GONE
        if state.cause is Cause.INCOMPATIBLE:
            if not running.begun:
                return await self._note_version_skew(chain, state)
            words = f"the trainer ended with exit status {state.exit_code}"  # Hippo did fit
            state = replace(state, cause=Cause.TRAINER_ERROR, message=words)
        how, cause = outcome(state), str(state.cause)
        if running.is_leaving and not running.begun and how is Outcome.PREEMPTED:
            how = Outcome.STOPPED  # by the engine, which needs it no more or has no room for it
        message = state.message or "the pod ended"
        error = WorkerError(during="step", message=message, step=running.step)
        self._note_over(chain, how, cause)
        self._gaps.note_end(context.tools.clock())  # nobody knows when it trained last
        if running.is_leaving or how is Outcome.PREEMPTED:
            if not running.is_leaving:
                words = f"{chain}: {message}"
                context.events.warn(running.study, names.REASON_CHAIN_PREEMPTED, words)
            await context.pump.feed(WorkerGone(chain, how, error))
            return
        with context.events.failure(running.study, chain, message):
            await context.pump.feed(WorkerGone(chain, how, error))

    async def _note_version_skew(self, chain: str, state: PodState) -> None:
        """Treat the chain as if it had not been launched. No other is launched before a person has
        seen to the image.
        """
        context = self._context
        self._note_over(chain, outcome(state), str(state.cause))
        self._version_skew.note(state.message, self._studies)
        status = context.plan_object.status
        if not status.fingerprint:  # no worker's: the tag may be another image's soon
            status.image_id = None
        self._version_skew.apply(context.watch, self._studies)
        await self._tell_workers()
        await context.pump.feed(WorkerGone(chain, Outcome.STOPPED, None))

    def _note_over(self, chain: str, how: Outcome, cause: str | None) -> None:
        self._context.reports.ended([chain])
        self._context.tools.metrics.note_chain_end(*self._context.identity.place, how, cause)
