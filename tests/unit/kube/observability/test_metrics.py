"""What Prometheus is told: names by its conventions, and values that follow what happens."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from hippo.kube.observability import health
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.state import Cause
from hippo.kube.status.models import (
    BestTrial,
    ChainRecord,
    SearchPlanStatus,
    StageCounts,
    StudyStatus,
    TrialCounts,
)
from hippo.protocol.reports import Began, CheckpointSaved, Ended, MetricsReported, Outcome
from tests.cluster import programs

BEGAN = Began(
    chain="1-1", sequence_number=0, step=60, fingerprint={}, start_seconds=2.5, load_seconds=0.2
)
SAVED = CheckpointSaved(
    chain="1-1",
    sequence_number=1,
    step=90,
    key="k",
    size=5000,
    state_digest="d",
    copy_seconds=0.02,
    write_seconds=0.5,
)
EVALUATED = MetricsReported(
    chain="1-1", sequence_number=2, step=90, key="k", metrics={"a": 1.0}, evaluate_seconds=4.0
)
ENDED = Ended(chain="1-1", sequence_number=3, step=90, outcome=Outcome.COMPLETED)
STUDY = StudyStatus(
    phase="Running",
    trials=TrialCounts(total=12, pending=5, paused=1, completed=4, diverged=2),
    best=BestTrial(trial="digits-3", value=0.5, step=120),
    steps_requested=1200,
    steps_reached=480,
    merge_rate=2.5,
    worker_seconds=30.5,
    saved_hours=0.5,
)
PLAN = SearchPlanStatus(
    stages=StageCounts(done=3, running=2, pending=1),
    steps_requested=1200,
    steps_unique=480,
    steps_trained=200,
    merge_rate=2.5,
    worker_seconds=31.0,
    saved_seconds=1800.0,
    chains=[ChainRecord(name="1-1", study="digits")],
)


class Watch:
    """The time, as tests set it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def metrics(watch: Watch) -> Metrics:
    return Metrics(CollectorRegistry(), clock=watch, per_study=True)


def families(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in parse(metrics.expose()[0].decode())}


def read(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def use_all(metrics: Metrics, namespace: str = "ml", study: str = "digits") -> None:
    plan = f"{study}-plan"
    metrics.update_study(namespace, study, STUDY)
    metrics.update_plan(namespace, plan, PLAN)
    for report in (BEGAN, SAVED, EVALUATED, ENDED):
        metrics.note_report(namespace, plan, report, 0.3)
    metrics.note_stage(namespace, plan, 12.0)
    metrics.note_pod(namespace, plan, queue_seconds=1.0, startup_seconds=3.0)
    metrics.note_gap(namespace, plan, 0.2)
    metrics.note_chain_end(namespace, plan, Outcome.COMPLETED, "none")
    metrics.note_chain_end(namespace, plan, Outcome.LOST, Cause.OUT_OF_MEMORY)
    metrics.note_chain_end(namespace, plan, Outcome.PREEMPTED, Cause.EVICTED)
    metrics.note_store_error(namespace, plan)
    metrics.reconciled(namespace, plan, 0.05, error=True)


IN_PLAN = {"namespace": "ml", "plan": "digits-plan"}
IN_STUDY = {"namespace": "ml", "study": "digits"}


class TestStatuses:
    def test_a_study(self, metrics: Metrics) -> None:
        use_all(metrics)
        phases = {
            sample.labels["phase"]: sample.value
            for sample in families(metrics)["hippo_study_trials"].samples
        }
        assert phases == {
            "pending": 5,
            "paused": 1,
            "completed": 4,
            "stopped": 0,
            "diverged": 2,
            "failed": 0,
        }
        assert read(metrics, "hippo_study_requested_steps", **IN_STUDY) == 1200
        assert read(metrics, "hippo_study_reached_steps", **IN_STUDY) == 480
        assert read(metrics, "hippo_study_merge_ratio", **IN_STUDY) == 2.5
        assert read(metrics, "hippo_study_best_objective", **IN_STUDY) == 0.5
        assert read(metrics, "hippo_study_worker_seconds_total", **IN_STUDY) == 30.5
        assert read(metrics, "hippo_study_saved_worker_seconds", **IN_STUDY) == 1800

    def test_a_plan(self, metrics: Metrics) -> None:
        use_all(metrics)
        assert read(metrics, "hippo_plan_stages", state="running", **IN_PLAN) == 2
        assert read(metrics, "hippo_plan_chains", **IN_PLAN) == 1
        assert read(metrics, "hippo_plan_unique_steps", **IN_PLAN) == 480
        assert read(metrics, "hippo_plan_trained_steps_total", **IN_PLAN) == 200
        assert read(metrics, "hippo_plan_saved_worker_seconds", **IN_PLAN) == 1800

    def test_what_is_not_known_is_not_told(self, metrics: Metrics) -> None:
        metrics.update_study("ml", "digits", StudyStatus(phase="Pending"))
        metrics.update_plan("ml", "digits-plan", SearchPlanStatus())
        told = {s.name for family in metrics.registry.collect() for s in family.samples}
        assert {name for name in told if name.startswith(("hippo_study", "hippo_plan"))} == {
            "hippo_plan_chains"
        }

    def test_studies_are_counted_by_phase(self, metrics: Metrics) -> None:
        metrics.update_study("ml", "a", STUDY)
        metrics.update_study("ml", "b", STUDY)
        metrics.update_study("ml", "c", StudyStatus(phase="Succeeded"))
        metrics.update_study("lab", "a", StudyStatus())
        assert read(metrics, "hippo_studies", namespace="ml", phase="Running") == 2
        assert read(metrics, "hippo_studies", namespace="ml", phase="Succeeded") == 1
        assert read(metrics, "hippo_studies", namespace="ml", phase="Failed") == 0
        assert read(metrics, "hippo_studies", namespace="lab", phase="Pending") == 1
        metrics.update_study("ml", "a", StudyStatus(phase="Succeeded"))
        assert read(metrics, "hippo_studies", namespace="ml", phase="Running") == 1
        assert read(metrics, "hippo_studies", namespace="ml", phase="Succeeded") == 2

    def test_what_is_forgotten_vanishes(self, metrics: Metrics) -> None:
        before = metrics.expose()
        use_all(metrics)
        use_all(metrics, study="mnist")
        metrics.forget_study("ml", "digits")
        metrics.forget_plan("ml", "digits-plan")
        text = metrics.expose()[0].decode()
        assert "digits" not in text
        assert "mnist" in text
        metrics.forget_study("ml", "mnist")
        metrics.forget_plan("ml", "mnist-plan")
        metrics.note_store_up()
        assert metrics.expose() == before
        metrics.forget_study("ml", "never")
        metrics.forget_plan("ml", "never")


class TestWhoeverReachesThePort:
    """Reads of all namespaces; so only numbers of each are told unless an administrator says so."""

    def test_names_and_values_of_studies_are_not_told(self, watch: Watch) -> None:
        metrics = Metrics(CollectorRegistry(), clock=watch)
        use_all(metrics, study="secret-project")
        metrics.forget_plan("ml", "secret-project-plan")  # a plan's name is a hash, but here
        text = metrics.expose()[0].decode()
        assert "secret-project" not in text
        assert "best_objective" not in text
        names = {sample.name for f in metrics.registry.collect() for sample in f.samples}
        assert not [name for name in names if name.startswith("hippo_study_")]

    def test_numbers_of_a_namespace_are(self, watch: Watch) -> None:
        metrics = Metrics(CollectorRegistry(), clock=watch)
        use_all(metrics)
        use_all(metrics, study="mnist")
        use_all(metrics, namespace="lab")
        assert read(metrics, "hippo_studies", namespace="ml", phase="Running") == 2
        assert read(metrics, "hippo_trials", namespace="ml", phase="completed") == 8
        assert read(metrics, "hippo_trials", namespace="ml", phase="failed") == 0
        assert read(metrics, "hippo_trials", namespace="lab", phase="diverged") == 2

    def test_the_study_that_waits_longest_is_seen(self, watch: Watch) -> None:
        name = "hippo_studies_oldest_progress_timestamp_seconds"
        metrics = Metrics(CollectorRegistry(), clock=watch)
        metrics.update_study("ml", "slow", STUDY)
        watch.now += 60
        metrics.update_study("ml", "quick", STUDY)
        metrics.update_study("ml", "done", StudyStatus(phase="Succeeded"))
        metrics.update_study("lab", "waits", StudyStatus(phase="Pending"))
        assert read(metrics, name, namespace="ml") == 1000
        assert read(metrics, name, namespace="lab") is None
        metrics.update_study("ml", "slow", STUDY.model_copy(update={"phase": "Suspended"}))
        assert read(metrics, name, namespace="ml") == 1060


class TestProgress:
    NAME = "hippo_study_last_progress_timestamp_seconds"

    def test_it_is_the_time_of_the_last_change(self, metrics: Metrics, watch: Watch) -> None:
        metrics.update_study("ml", "digits", STUDY)
        watch.now += 60
        metrics.update_study("ml", "digits", STUDY.model_copy(update={"message": "waits"}))
        assert read(metrics, self.NAME, **IN_STUDY) == 1000
        metrics.update_study("ml", "digits", STUDY.model_copy(update={"steps_reached": 481}))
        assert read(metrics, self.NAME, **IN_STUDY) == 1060

    def test_a_status_may_be_changed_in_place(self, metrics: Metrics, watch: Watch) -> None:
        status = STUDY.model_copy(deep=True)
        metrics.update_study("ml", "digits", status)
        watch.now += 60
        assert status.trials is not None
        status.trials.completed += 1
        metrics.update_study("ml", "digits", status)
        assert read(metrics, self.NAME, **IN_STUDY) == 1060

    def test_only_a_running_study_has_one(self, metrics: Metrics, watch: Watch) -> None:
        metrics.update_study("ml", "digits", STUDY)
        metrics.update_study("ml", "digits", STUDY.model_copy(update={"phase": "Suspended"}))
        assert read(metrics, self.NAME, **IN_STUDY) is None
        watch.now += 7200
        metrics.update_study("ml", "digits", STUDY)
        assert read(metrics, self.NAME, **IN_STUDY) == 8200


class TestEvents:
    def test_reports(self, metrics: Metrics) -> None:
        use_all(metrics)
        for name, total in {
            "hippo_chain_start_duration_seconds": 2.5,
            "hippo_checkpoint_load_duration_seconds": 0.2,
            "hippo_checkpoint_size_bytes": 5000,
            "hippo_checkpoint_copy_duration_seconds": 0.02,
            "hippo_checkpoint_write_duration_seconds": 0.5,
            "hippo_evaluation_duration_seconds": 4.0,
            "hippo_stage_duration_seconds": 12.0,
            "hippo_pod_queue_duration_seconds": 1.0,
            "hippo_pod_start_duration_seconds": 3.0,
            "hippo_chain_gap_seconds": 0.2,
            "hippo_reconcile_duration_seconds": 0.05,
        }.items():
            assert read(metrics, f"{name}_count", **IN_PLAN) == 1, name
            assert read(metrics, f"{name}_sum", **IN_PLAN) == total, name
        assert read(metrics, "hippo_report_lag_seconds_count", **IN_PLAN) == 4

    def test_nothing_is_loaded_at_step_0(self, metrics: Metrics) -> None:
        metrics.note_report("ml", "digits-plan", BEGAN.model_copy(update={"step": 0}))
        assert read(metrics, "hippo_checkpoint_load_duration_seconds_count", **IN_PLAN) is None
        assert read(metrics, "hippo_report_lag_seconds_count", **IN_PLAN) is None

    def test_ends_of_chains(self, metrics: Metrics) -> None:
        use_all(metrics)
        metrics.note_chain_end("ml", "digits-plan", Outcome.FAILED)
        metrics.note_chain_end("ml", "digits-plan", Outcome.STORE, Cause.NONE)
        metrics.note_chain_end("ml", "digits-plan", Outcome.LOST)
        failures = {
            sample.labels["cause"]: sample.value
            for sample in families(metrics)["hippo_chain_failures"].samples
        }
        assert failures == {"out_of_memory": 1, "trainer_error": 1, "store": 1, "unknown": 1}
        disruptions = families(metrics)["hippo_chain_disruptions"].samples
        assert [(s.labels["cause"], s.value) for s in disruptions] == [("evicted", 1)]
        assert read(metrics, "hippo_chain_ends_total", outcome="lost", **IN_PLAN) == 2

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_every_outcome_is_counted(self, metrics: Metrics, outcome: Outcome) -> None:
        metrics.note_chain_end("ml", "digits-plan", outcome, Cause.NONE)
        assert read(metrics, "hippo_chain_ends_total", outcome=str(outcome), **IN_PLAN) == 1

    def test_rounds(self, metrics: Metrics, watch: Watch) -> None:
        last = "hippo_last_reconcile_timestamp_seconds"
        assert read(metrics, last) == 1000
        watch.now = 2000
        metrics.note_store_error("ml", "digits-plan")
        metrics.reconciled("ml", "digits-plan", 0.1, error=True)
        assert read(metrics, last) == 1000
        assert read(metrics, "hippo_store_up") == 0
        assert read(metrics, "hippo_store_errors_total", **IN_PLAN) == 1
        assert read(metrics, "hippo_reconcile_errors_total", **IN_PLAN) == 1
        metrics.reconciled("ml", "digits-plan", 0.1, error=False)
        assert read(metrics, last) == 2000
        assert read(metrics, "hippo_store_up") == 1
        assert read(metrics, "hippo_reconcile_errors_total", **IN_PLAN) == 1
        watch.now = 3000
        metrics.note_idle()
        assert read(metrics, last) == 3000


WORDS = {"namespace", "study", "plan", "phase", "state", "cause", "outcome", "le"}


class TestExposition:
    def test_labels(self, metrics: Metrics) -> None:
        use_all(metrics)
        used = {label for f in families(metrics).values() for s in f.samples for label in s.labels}
        assert used == WORDS

    def test_every_metric_is_explained(self, metrics: Metrics) -> None:
        use_all(metrics)
        for name, family in families(metrics).items():
            assert name.startswith("hippo_")
            assert family.documentation.endswith("."), name
            assert family.type in ("counter", "gauge", "histogram"), name

    def test_nothing_is_told_twice(self, metrics: Metrics) -> None:
        use_all(metrics)
        lines = metrics.expose()[0].decode().splitlines()
        assert len(set(lines)) == len(lines)
        assert not any("_created" in line for line in lines)

    def test_open_metrics(self, metrics: Metrics) -> None:
        use_all(metrics)
        text, content_type = metrics.expose("application/openmetrics-text; version=1.0.0")
        assert content_type.startswith("application/openmetrics-text")
        assert "hippo_chain_failures" in {family.name for family in parse_open(text.decode())}

    def test_promtool_finds_no_fault(self, metrics: Metrics) -> None:
        promtool = programs.find("promtool")
        if promtool is None:
            pytest.skip("promtool is not installed")
        use_all(metrics)
        done = subprocess.run(
            [promtool, "check", "metrics"],
            input=metrics.expose()[0],
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    def test_the_operators_own_process_is_told_of(self) -> None:
        assert "process_resident_memory_bytes" in families(Metrics())


class TestServer:
    def fetch(self, metrics: Metrics, path: str, reason: str | None = None) -> tuple[int, str, str]:
        async def ask() -> tuple[int, str, str]:
            server = await health.serve(metrics, lambda: reason, 0, host="127.0.0.1")
            try:
                return await asyncio.to_thread(get, f"http://127.0.0.1:{server.port}{path}")
            finally:
                await server.close()

        return asyncio.run(ask())

    def test_metrics(self, metrics: Metrics) -> None:
        use_all(metrics)
        status, content_type, text = self.fetch(metrics, "/metrics")
        assert status == 200
        assert content_type.startswith("text/plain; version=")
        assert "hippo_studies" in {family.name for family in parse(text)}

    def test_health(self, metrics: Metrics) -> None:
        assert self.fetch(metrics, "/healthz")[::2] == (200, "ok\n")
        reason = "no watch event for 10 min"
        assert self.fetch(metrics, "/healthz", reason)[::2] == (503, f"{reason}\n")

    def test_nothing_else(self, metrics: Metrics) -> None:
        assert self.fetch(metrics, "/")[0] == 404

    def test_readers_who_accept_what_is_nothing(self, metrics: Metrics) -> None:
        for accept in ("application/openmetrics-text;version=x", ";;=,", "\udcff", "x" * 5000):
            _, content_type = metrics.expose(accept)
            assert content_type.startswith("text/plain; version=")

    def test_connections_that_say_nothing_keep_nobody_out(self, metrics: Metrics) -> None:
        async def go() -> None:
            server = await health.serve(metrics, lambda: None, 0, host="127.0.0.1")
            idle = []
            for _ in range(3 * health.MAX_CONNECTIONS):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"GET /met")
                idle.append((reader, writer))
            try:
                url = f"http://127.0.0.1:{server.port}/healthz"
                assert (await asyncio.to_thread(get, url))[::2] == (200, "ok\n")
                for reader, _ in idle[: -health.MAX_CONNECTIONS]:
                    with contextlib.suppress(ConnectionError):
                        assert await asyncio.wait_for(reader.read(), 10) == b""
            finally:
                for _, writer in idle:
                    writer.close()
                await server.close()

        asyncio.run(go())

    def test_what_is_no_request_is_not_told_in_the_log(
        self, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def go() -> None:
            server = await health.serve(metrics, lambda: None, 0, host="127.0.0.1")
            for sent in (b"\0\xff\r\n\r\n", b"GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(sent)
                assert b" 400 " in await asyncio.wait_for(reader.read(100), 10)
                writer.close()
            await server.close()

        asyncio.run(go())
        assert not caplog.records

    def test_a_port_in_use(self, metrics: Metrics) -> None:
        async def clash() -> None:
            first = await health.serve(metrics, lambda: None, 0, host="127.0.0.1")
            try:
                with pytest.raises(OSError, match="in use"):
                    await health.serve(metrics, lambda: None, first.port, host="127.0.0.1")
            finally:
                await first.close()

        asyncio.run(clash())


def get(url: str) -> tuple[int, str, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()
