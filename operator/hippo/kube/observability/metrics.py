"""Metrics of the operator's studies, its plans and itself, for Prometheus.

Gauges and totals of studies and plans are their statuses once more (``status_collector``). Reports,
pods and rounds of the operator pass by, and are counted when they are noted. Labels
name a namespace or a plan, or are one of few words; never a trial, a chain or a pod. Whoever can
reach the port reads all of it, so names and best values of studies are told on request only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from hippo.kube.observability.status_collector import PLAN, StatusCollector
from hippo.kube.status.models import SearchPlanStatus, StudyStatus
from hippo.protocol.reports import Began, CheckpointSaved, MetricsReported, Outcome, Report

_BYTES = tuple(float(4**exponent) for exponent in range(5, 20))  # 1 KiB to 256 GiB
_SHORT = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_LONG = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 14400.0, 86400.0)

_CAUSES = {
    # Chains that told how they ended: nothing has to be found out about their pods.
    Outcome.FAILED: "trainer_error",
    Outcome.INVALID: "invalid_trainer",
    Outcome.REFUSED: "foreign_checkpoint",
    Outcome.CORRUPT: "corrupt_checkpoint",
    Outcome.STORE: "store",
    Outcome.PREEMPTED: "preempted",
}
_NO_CAUSE = ("", "none")


class Metrics:
    """All metrics of one operator. To be used from one thread; ``clock`` gives Unix time.

    ``per_study``: with series of each study, which hold its name and its best value.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        clock: Callable[[], float] = time.time,
        per_study: bool = False,
    ) -> None:
        # Series that would double what is stored, for nothing here.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        if registry is None:
            registry = CollectorRegistry()
            prometheus_client.ProcessCollector(registry=registry)
            prometheus_client.PlatformCollector(registry=registry)
            prometheus_client.GCCollector(registry=registry)
        self.registry = registry
        self._clock = clock
        self._statuses = StatusCollector(per_study)
        registry.register(self._statuses)
        self._of_plans: list[Counter | Histogram] = []

        self._checkpoint_size = self._histogram(
            "hippo_checkpoint_size_bytes", "Sizes of the checkpoints that were saved.", _BYTES
        )
        self._copy = self._histogram(
            "hippo_checkpoint_copy_duration_seconds",
            "For how long training stood still, so that a checkpoint could be copied.",
        )
        self._write = self._histogram(
            "hippo_checkpoint_write_duration_seconds",
            "Writing a checkpoint to the store, beside training.",
        )
        self._load = self._histogram(
            "hippo_checkpoint_load_duration_seconds",
            "Reading and restoring the checkpoint that a chain starts from.",
        )
        self._start = self._histogram(
            "hippo_chain_start_duration_seconds",
            "From a worker's launch until its trainer was set up.",
        )
        self._evaluate = self._histogram(
            "hippo_evaluation_duration_seconds", "Evaluations of trainers."
        )
        self._stage = self._histogram(
            "hippo_stage_duration_seconds", "Training a stage from its beginning to its end.", _LONG
        )
        self._lag = self._histogram(
            "hippo_report_lag_seconds", "From a worker's report until the operator has taken it in."
        )
        self._queue = self._histogram(
            "hippo_pod_queue_duration_seconds", "From a pod's creation until it had a node.", _LONG
        )
        self._pod_start = self._histogram(
            "hippo_pod_start_duration_seconds",
            "From the moment that a pod had a node until its trainer's container ran.",
            _LONG,
        )
        self._gap = self._histogram(
            "hippo_chain_gap_seconds",
            "From the last step of a chain to the creation of the pod in its place.",
        )
        self._reconcile = self._histogram(
            "hippo_reconcile_duration_seconds", "Rounds of the operator over a plan."
        )
        self._reconcile_errors = self._counter(
            "hippo_reconcile_errors_total", "Rounds over a plan that failed, and are tried again."
        )
        self._store_errors = self._counter(
            "hippo_store_errors_total", "Rounds over a plan that failed because of the store."
        )
        self._ends = self._counter(
            "hippo_chain_ends_total", "Chains that have ended, by outcome.", "outcome"
        )
        self._failures = self._counter(
            "hippo_chain_failures_total",
            "Chains that have failed, by cause. Those that only had to leave are no failures.",
            "cause",
        )
        self._disruptions = self._counter(
            "hippo_chain_disruptions_total",
            "Chains that had to leave before their end, by cause: preemption, eviction, a lost"
            " node. Their work goes on from what was saved.",
            "cause",
        )
        self._last_reconcile = Gauge(
            "hippo_last_reconcile_timestamp_seconds",
            "When a round over any plan has last succeeded, or there was none to make.",
            registry=registry,
        )
        self._last_reconcile.set(clock())
        self._store_up = Gauge(
            "hippo_store_up", "Whether the store has answered the last time.", registry=registry
        )
        self._store_up.set(1)
        self._unswept = Gauge(
            "hippo_unswept_plans",
            "Plans that the last clean-up of the store could not read, and has left as they are.",
            registry=registry,
        )

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """All of it as text, and the type of that text; ``accept`` is what the reader accepts."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # of a version that is none
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type

    # -- studies and plans -------------------------------------------------------------------------

    def update_study(self, namespace: str, name: str, status: StudyStatus) -> None:
        """How a study stands, whether or not anything has changed."""
        self._statuses.update_study((namespace, name), status, self._clock())

    def forget_study(self, namespace: str, name: str) -> None:
        """It was deleted: its series vanish."""
        self._statuses.studies.pop((namespace, name), None)

    def keep_studies(self, there: Collection[tuple[str, str]]) -> None:
        """Forget all studies but these, by namespace and name: their deletion was not reported."""
        for key in self._statuses.studies.keys() - set(there):
            del self._statuses.studies[key]

    def update_plan(self, namespace: str, plan: str, status: SearchPlanStatus) -> None:
        """How a plan stands."""
        self._statuses.plans[namespace, plan] = status.model_copy()

    def forget_plan_status(self, namespace: str, plan: str) -> None:
        """Its object was deleted."""
        self._statuses.plans.pop((namespace, plan), None)

    def forget_plan(self, namespace: str, plan: str) -> None:
        """Nobody works on it any more: its series vanish."""
        self.forget_plan_status(namespace, plan)
        for metric in self._of_plans:
            metric.remove_by_labels({"namespace": namespace, "plan": plan})

    # -- what happens ------------------------------------------------------------------------------

    def note_report(
        self, namespace: str, plan: str, report: Report, lag_seconds: float | None = None
    ) -> None:
        """A worker's report was taken in, so long after it was written."""
        labels = (namespace, plan)
        if lag_seconds is not None:
            self._lag.labels(*labels).observe(max(0.0, lag_seconds))
        match report:
            case Began():
                self._start.labels(*labels).observe(report.start_seconds)
                if report.step > 0:
                    self._load.labels(*labels).observe(report.load_seconds)
            case CheckpointSaved():
                self._checkpoint_size.labels(*labels).observe(report.size)
                self._copy.labels(*labels).observe(report.copy_seconds)
                if not report.existed:
                    self._write.labels(*labels).observe(report.write_seconds)
            case MetricsReported():
                self._evaluate.labels(*labels).observe(report.evaluate_seconds)
            case _:
                pass

    def note_stage(self, namespace: str, plan: str, seconds: float) -> None:
        """A stage was trained from its beginning to its end."""
        self._stage.labels(namespace, plan).observe(seconds)

    def note_pod(
        self,
        namespace: str,
        plan: str,
        *,
        queue_seconds: float | None = None,
        startup_seconds: float | None = None,
    ) -> None:
        """A pod has got its node, or its container runs."""
        if queue_seconds is not None:
            self._queue.labels(namespace, plan).observe(queue_seconds)
        if startup_seconds is not None:
            self._pod_start.labels(namespace, plan).observe(startup_seconds)

    def note_gap(self, namespace: str, plan: str, seconds: float) -> None:
        """A pod was created, so long after a chain that has ended had trained its last step."""
        self._gap.labels(namespace, plan).observe(seconds)

    def note_chain_end(
        self, namespace: str, plan: str, outcome: Outcome, cause: str | None = None
    ) -> None:
        """A chain has ended; ``cause`` is what its pod says (``pods.Cause``), if that is known."""
        self._ends.labels(namespace, plan, str(outcome)).inc()
        if outcome in (Outcome.COMPLETED, Outcome.STOPPED):
            return
        known = str(cause) if cause not in (None, *_NO_CAUSE) else _CAUSES.get(outcome, "unknown")
        counter = self._disruptions if outcome is Outcome.PREEMPTED else self._failures
        counter.labels(namespace, plan, known).inc()

    def note_store_error(self, namespace: str, plan: str) -> None:
        """The store has failed for a plan."""
        self._store_errors.labels(namespace, plan).inc()
        self.note_store_down()

    def note_store_down(self) -> None:
        """The store does not answer."""
        self._store_up.set(0)

    def note_unswept(self, plans: int) -> None:
        """The store was cleaned up, but for so many plans."""
        self._unswept.set(plans)

    def note_store_up(self) -> None:
        """The store has answered."""
        self._store_up.set(1)

    def reconciled(self, namespace: str, plan: str, seconds: float, error: bool) -> None:
        """A round over a plan is over. One without an error has had answers of the store."""
        self._reconcile.labels(namespace, plan).observe(seconds)
        errors = self._reconcile_errors.labels(namespace, plan)
        if error:
            errors.inc()
        else:
            self.note_idle()
            self.note_store_up()

    def note_idle(self) -> None:
        """The operator is alive; perhaps there is nothing to make a round over."""
        self._last_reconcile.set(self._clock())

    # -- making them -------------------------------------------------------------------------------

    def _histogram(self, name: str, text: str, buckets: Iterable[float] = _SHORT) -> Histogram:
        metric = Histogram(name, text, PLAN, buckets=tuple(buckets), registry=self.registry)
        self._of_plans.append(metric)
        return metric

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        metric = Counter(name, text, [*PLAN, *labels], registry=self.registry)
        self._of_plans.append(metric)
        return metric
