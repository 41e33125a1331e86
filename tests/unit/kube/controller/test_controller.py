"""What watches and lists tell the operator, in whatever order, and what it makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hippo.kube import serial_executor
from hippo.kube.client import ApiError, Refused
from hippo.kube.controller import plan_worker as module
from hippo.kube.controller.controller import Operator
from hippo.kube.controller.plan_worker import PlanWorker
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.manifest import build_dry_runs
from hippo.kube.reconciler.reconciler import Reconciler
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY, TRIAL, Document
from hippo.kube.settings import Settings
from hippo.kube.spec_parser import SpecParser
from hippo.model import signature, signature_document
from hippo.protocol.reports import Began
from hippo.protocol.requests import Stop
from hippo.store import DirectoryBlobs, PlanLock, PlanStore, plan_path
from hippo.store.mailbox import Mailbox
from hippo.tune.grid import GridTuner
from tests.unit.kube.memory import (
    NAMESPACE,
    MemoryApi,
    add_study,
    add_trial,
    parse,
    run,
    study_document,
)

SECONDS = 20.0


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_PAUSE", 0.05)
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)


@contextlib.asynccontextmanager
async def operating(server: MemoryApi, tmp_path: Path) -> AsyncIterator[Operator]:
    settings = Settings(store="s3://bucket", resync=60.0)
    metrics = Metrics(per_study=True)
    made = Operator(server.api, DirectoryBlobs(tmp_path / "store"), settings, metrics)
    try:
        yield made
    finally:
        await made.stop()


async def until(condition: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


def only(made: Operator) -> PlanWorker:
    (task,) = made.plans.values()
    return task


def store_of(server: MemoryApi, study: str, tmp_path: Path) -> PlanStore:
    trainer = parse(server.find(STUDY, study)).spec.trainer
    signed = signature(signature_document(trainer, None))
    return PlanStore(DirectoryBlobs(tmp_path / "store"), plan_path(NAMESPACE, signed))


def phase(server: MemoryApi, study: str) -> str | None:
    found: str | None = (server.find(STUDY, study).get("status") or {}).get("phase")
    return found


def is_open(made: Operator) -> bool:
    return bool(made.plans) and only(made).reconciler is not None


def edited(document: Document, **spec: Any) -> Document:
    changed = copy.deepcopy(document)
    changed["spec"] |= spec
    changed["metadata"]["generation"] += 1
    return changed


def test_no_plan_is_opened_before_all_its_studies_are_known(tmp_path: Path) -> None:
    """Else pods at work for a study whose event is still to come would be sent away."""

    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        await add_study(server, "b", space={"lr": {"choices": [0.3]}})
        async with operating(server, tmp_path) as first:
            await first.resync.look_again()
            await until(lambda: len(server.names(POD)) == 3, "pods")
        pods = server.names(POD)
        async with operating(server, tmp_path) as second:
            await second.study_changed(server.find(STUDY, "b"), is_gone=False)
            await asyncio.sleep(0.3)
            assert not is_open(second)
            await second.resync.look_again()
            await until(lambda: is_open(second), "the plan is open")
            await asyncio.sleep(0.1)
            assert server.names(POD) == pods

    run(go())


def test_a_study_that_is_not_accepted_is_not_taken_for_deleted(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        async with operating(server, tmp_path) as first:
            await first.resync.look_again()
            await until(lambda: phase(server, "a") == "Running", "a runs")
        store = store_of(server, "a", tmp_path)
        before = store.read_study("a")
        # A later version of the operator has another opinion of it.
        server.find(STUDY, "a")["spec"]["steps"] = 0
        await add_study(server, "b")
        async with operating(server, tmp_path) as second:
            await second.resync.look_again()
            await until(lambda: phase(server, "b") == "Running", "b runs")
            assert store.read_study("a") == before
            server.objects.pop((STUDY.plural, NAMESPACE, "b"))
            for plan in server.names(SEARCH_PLAN):  # as garbage collection does
                server.objects.pop((SEARCH_PLAN.plural, NAMESPACE, plan))
            await second.resync.look_again()
            await until(lambda: not second.plans, "the plan is forgotten")
        assert store.read_study("a") == before
        assert store.read_study("b")["deleted"] is not None

    run(go())


def test_an_older_list_neither_reverts_an_edit_nor_revives_a_study(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        item = await add_study(server, "a", parallelism=1)
        listed = dict(item.document)
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: is_open(made), "the plan is open")
            await made.study_changed(edited(listed, parallelism=2), is_gone=False)
            await made.study_changed(listed, is_gone=False)
            assert only(made).studies["a"].study.spec.parallelism == 2
            await made.study_changed(listed, is_gone=True)
            await made.study_changed(listed, is_gone=False)
            assert not only(made).studies

    run(go())


def test_the_trouble_of_one_study_is_not_that_of_others(tmp_path: Path) -> None:
    """A webhook that fails for the pods of one of them, say."""

    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        server.find(STUDY, "a")["status"] = {"phase": "nonsense"}
        await add_study(server, "b")
        await add_study(server, "c", steps=5)

        def fail(verb: str, plural: str, name: str) -> ApiError | None:
            is_b = (verb, plural, name) == ("create", "pods", "hippo-check-b")
            return ApiError(500, "failed calling webhook") if is_b else None

        server.fail = fail
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: phase(server, "c") == "Running", "c runs")
            server.objects.pop((STUDY.plural, NAMESPACE, "c"))
            await made.resync.look_again()
            assert "c" not in {n for task in made.plans.values() for n in task.studies}

    run(go())


def test_a_welcome_that_fails_delays_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        answers = [ApiError(500, "no")]
        server.fail = lambda verb, *_: answers.pop() if verb == "status" and answers else None
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: phase(server, "a") == "Running", "a runs")

    run(go())


def test_what_keeps_a_plan_for_long_is_said_in_its_studies(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        is_down = True
        server.fail = lambda verb, plural, _: (
            ApiError(500, "no Trials today")
            if is_down and (verb, plural) == ("create", TRIAL.plural)
            else None
        )
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            condition: dict[str, Any] = {}

            def is_told() -> bool:
                found = (server.find(STUDY, "a").get("status") or {}).get("conditions", [])
                condition.update(*(c for c in found if c["type"] == "Progressing"))
                return condition.get("reason") == "RequestFailed"

            await until(is_told, "the study tells")
            assert "no Trials today" in condition["message"]
            is_down = False
            await until(lambda: phase(server, "a") == "Running", "it goes on")

    run(go())


def test_a_study_goes_on_once_the_trial_in_its_way_is_gone(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        in_the_way = {"metadata": {"name": "a-0"}, "spec": {"study": "a"}}
        await server.create(TRIAL, NAMESPACE, in_the_way)
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: phase(server, "a") == "Suspended", "it waits")
            found = server.objects.pop((TRIAL.plural, NAMESPACE, "a-0"))
            made.trial_changed(found, is_gone=True)
            await until(lambda: phase(server, "a") == "Running", "it goes on")

    run(go())


@pytest.mark.slow
def test_a_plan_that_is_closed_holds_no_memory(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a", algorithm={"name": "external"}, budget={"wallTime": "1s"})
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: is_open(made), "the plan is open")
            driver = only(made).reconciler
            assert driver is not None
            held: weakref.ref[Reconciler] = weakref.ref(driver)
            del driver
            await until(lambda: not is_open(made), "the plan is closed")
            assert phase(server, "a") == "Failed"
            await asyncio.sleep(0.05)
            gc.collect()
            assert held() is None

    run(go())


def test_a_store_that_was_lost_is_filled_again_from_trials(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        for _ in range(3):
            async with operating(server, tmp_path) as made:
                await made.resync.look_again()
                await until(lambda: phase(server, "a") == "Running", "a runs")
        decisions = store_of(server, "a", tmp_path).read_decisions("a")
        assert len(decisions) == 2
        async with operating(server, tmp_path / "new") as made:
            await made.resync.look_again()
            await until(lambda: is_open(made), "the plan is open")
            assert only(made).failures == 0
        assert store_of(server, "a", tmp_path / "new").read_decisions("a") == decisions

    run(go())


def test_names_of_any_length_pass_the_check_of_their_pods(tmp_path: Path) -> None:
    name = "a" * 50 + "-b"
    document = study_document(name)
    pod = build_dry_runs(parse(document), Settings(store="s3://bucket"))[0]
    assert pod["metadata"]["name"][-1].isalnum()
    assert len(pod["metadata"]["name"]) <= 63


def test_a_worker_of_another_kind_than_the_first_goes_at_once(tmp_path: Path) -> None:
    """Both were launched before the plan's kind was known."""

    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: len(server.names(POD)) == 2, "pods")
            store = store_of(server, "a", tmp_path)
            pods = {
                server.find(POD, name)["metadata"]["labels"]["hippo.dev/chain"]: name
                for name in server.names(POD)
            }
            for chain, cpu in zip(sorted(pods), ("avx2", "avx512"), strict=True):
                began = Began(
                    chain=chain,
                    sequence_number=0,
                    step=0,
                    fingerprint={"cpu": cpu},
                    start_seconds=1.0,
                    load_seconds=0.0,
                )
                store.write_report(began)
            only(made).wake.set()
            first, second = (pods[chain] for chain in sorted(pods))
            await until(lambda: second not in server.names(POD), "the second is removed")
            assert first in server.names(POD)
            driver = only(made).reconciler
            assert driver is not None
            assert driver.plan_object.status.fingerprint == {"cpu": "avx2"}

    run(go())


def test_whoever_makes_a_trial_that_no_study_takes_is_told(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "grid")
        await add_study(server, "open", algorithm={"name": "external"}, steps=5)
        await add_study(server, "over", algorithm={"name": "external"}, steps=6)
        server.find(STUDY, "over")["status"] = {"phase": "Succeeded"}
        for study in ("grid", "open", "over", "missing"):
            await add_trial(server, f"of-{study}", study)
        await add_trial(server, "done", "over")
        server.find(TRIAL, "done")["status"] = {"phase": "Completed"}

        def reason(name: str) -> str | None:
            found = server.find(TRIAL, name).get("status") or {}
            assert found.get("phase") in (None, "Rejected", "Pending", "Completed")
            return found["reason"] if found.get("phase") == "Rejected" else None

        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            for name in ("of-grid", "of-open", "of-over", "of-missing", "done"):
                made.trial_changed(server.find(TRIAL, name), is_gone=False)
            await made.resync.look_again()
            assert "there is no study missing" in str(reason("of-missing"))
            assert "study grid makes its own trials" in str(reason("of-grid"))
            assert reason("of-over") == "study over has ended"
            assert (reason("of-open"), reason("done")) == (None, None)
            await made.resync.look_again()
            assert [v for v, _, name in server.calls if name == "of-grid"].count("status") == 1
            await add_study(server, "missing", algorithm={"name": "external"}, steps=7)
            await made.resync.look_again()
            await until(lambda: reason("of-missing") is None, "it is taken after all")

    run(go())


def test_a_users_trial_whose_deletion_no_watch_has_told_is_stopped(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a", algorithm={"name": "external"})
        made_by_user = await add_trial(server, "mine", "a")
        mailbox = Mailbox(
            DirectoryBlobs(tmp_path / "store"), store_of(server, "a", tmp_path).plan, "a"
        )
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            made.trial_changed(made_by_user, is_gone=False)
            await until(lambda: mailbox.count() == 1, "it is asked for")
            await made.resync.look_again()
            server.objects.pop((TRIAL.plural, NAMESPACE, "mine"))
            await made.resync.look_again()
            await until(lambda: mailbox.count() == 2, "it is stopped")
            assert mailbox.read(1) == Stop(trial=0)

    run(go())


def test_a_list_of_pods_is_no_newer_than_the_watch(tmp_path: Path) -> None:
    """Of three pods, two change while they are listed: one goes, one comes."""

    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a", suspend=True)
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: is_open(made), "the plan is open")
            task = only(made)
            labels = {"hippo.dev/plan": task.name}
            pods = [
                {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}}
                for name in ("goes", "lost", "comes")
            ]
            for pod in pods[:2]:
                made.pod_changed(pod, is_gone=False)
            await server.create(POD, NAMESPACE, copy.deepcopy(pods[0]))
            listing = server.list

            async def slow(*arguments: Any, **options: Any) -> list[Document]:
                found = await listing(*arguments, **options)
                made.pod_changed(pods[0], is_gone=True)
                made.pod_changed(pods[2], is_gone=False)
                return found

            server.list = slow  # type: ignore[method-assign]
            await task._list_pods()
            assert set(task.pods) == {"comes"}

    run(go())


def test_metrics_of_studies_that_have_ended_outlive_the_operator(tmp_path: Path) -> None:
    def ask(made: Operator) -> dict[str, float]:
        text, _ = made.metrics.expose()
        lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        await server.create(STUDY, NAMESPACE, study_document("typo", steps=0))
        server.find(STUDY, "a")["status"] = {
            "phase": "Succeeded",
            "plan": "p",
            "trials": {"total": 2, "completed": 2},
            "workerSeconds": 81.5,
            "best": {"trial": "a-0", "value": 1 / 3, "step": 4},  # of an earlier version
        }
        plan = {"metadata": {"namespace": NAMESPACE, "name": "p"}}
        place, of_plan = f'namespace="{NAMESPACE}",study="a"', f'namespace="{NAMESPACE}",plan="p"'
        completed = place.replace(",", ',phase="completed",')
        joined = place.replace(",", ',plan="p",')
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            made.plan_changed(plan | {"status": {"workerSeconds": 81.5}}, is_gone=False)
            found = ask(made)
            assert found[f"hippo_study_worker_seconds_total{{{place}}}"] == 81.5
            assert found[f"hippo_study_trials{{{completed}}}"] == 2
            assert found[f"hippo_study_info{{{joined}}}"] == 1
            assert found[f"hippo_plan_worker_seconds_total{{{of_plan}}}"] == 81.5
            for phase, count in (("Succeeded", 1), ("Rejected", 1), ("Running", 0)):
                name = f'hippo_studies{{namespace="{NAMESPACE}",phase="{phase}"}}'
                assert found[name] == count
            best = server.find(STUDY, "a")["status"]["best"]
            assert (best["value"], best["shown"]) == (1 / 3, "0.333333")
            made.plan_changed(plan, is_gone=True)
            gone = server.objects.pop((STUDY.plural, NAMESPACE, "a"))
            await made.study_changed(gone, is_gone=True)
            del server.objects[STUDY.plural, NAMESPACE, "typo"]  # and no watch has told of it
            await made.resync.look_again()
            assert not [name for name in ask(made) if "research" in name and "study" in name]
            assert f"hippo_plan_worker_seconds_total{{{of_plan}}}" not in ask(made)

    run(go())


def test_a_namespace_whose_limits_forbid_the_default_requests_has_its_own(tmp_path: Path) -> None:
    class Limited(MemoryApi):
        """With a LimitRange."""

        async def create(self, resource: Any, namespace: str, body: Any, **options: Any) -> Any:
            if resource is POD and body["spec"]["containers"][0]["resources"].get("requests"):
                raise Refused(403, "maximum memory usage per Container is 512Mi")
            return await super().create(resource, namespace, body, **options)

    async def go() -> None:
        server = Limited()
        await add_study(server, "a")
        settings = Settings(store="s3://bucket", default_requests={"memory": "1Gi"})
        blobs = DirectoryBlobs(tmp_path / "store")
        made = Operator(server.api, blobs, settings, Metrics())
        try:
            await made.resync.look_again()
            await until(lambda: len(server.names(POD)) == 2, "pods")
        finally:
            await made.stop()

    run(go())


@contextlib.contextmanager
def stuck_tuners(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Those of studies that begin at 0.7 think until the event is set."""
    release, decide = threading.Event(), GridTuner.decide

    def think(tuner: GridTuner, idle: int) -> Any:
        if tuner._space.pick(0)["lr"] == 0.7:
            assert release.wait(60)
        return decide(tuner, idle)

    monkeypatch.setattr(GridTuner, "decide", think)
    try:
        yield release
    finally:
        release.set()


def hostile_trainer(number: int) -> Document:
    return {"entrypoint": "trainer:Trainer", "image": "digits:1", "version": str(number)}


@pytest.mark.slow
def test_plans_whose_tuners_think_for_long_delay_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the end of the operator; and they keep their locks meanwhile."""
    monkeypatch.setattr(serial_executor, "HEARTBEAT_SECONDS", 0.01)
    renewed: set[str] = set()
    renew = PlanLock.renew_if_due

    def note(lock: PlanLock) -> None:
        renewed.add(lock._plan)
        renew(lock)

    monkeypatch.setattr(PlanLock, "renew_if_due", note)

    async def go() -> None:
        server = MemoryApi()
        for number in range(40):  # more than there are threads for requests
            trainer = hostile_trainer(number)
            space = {"lr": {"choices": [0.7]}}
            await add_study(server, f"hostile-{number}", trainer=trainer, space=space)
        await add_study(server, "sound")
        with stuck_tuners(monkeypatch) as release:
            async with operating(server, tmp_path) as made:
                await made.resync.look_again()
                await until(lambda: phase(server, "sound") == "Running", "it runs")
                await until(lambda: len(server.names(POD)) == 2, "it has pods")
                stuck = [t for t in made.plans.values() if "sound" not in t.studies]
                executors = [t.carryover.executor for t in stuck]
                await until(lambda: all(e.is_busy for e in executors), "the others think")
                renewed.clear()
                await until(lambda: len(renewed) >= 40, "their locks are renewed")
                assert not any(phase(server, f"hostile-{n}") == "Running" for n in range(40))
                assert made.resync.find_problem() is None
                await made.resync.look_again()
            assert not release.is_set(), "the operator has ended before they have"
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: phase(server, "hostile-39") == "Running", "the next goes on")

    run(go())


def test_a_namespace_whose_studies_take_long_to_read_delays_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, read = threading.Event(), SpecParser.parse_study

    def wait(parser: SpecParser, document: Any, namespace: str) -> Any:
        if namespace == "bad":
            assert release.wait(60)
        return read(parser, document, namespace)

    monkeypatch.setattr(SpecParser, "parse_study", wait)

    async def go() -> None:
        server = MemoryApi()
        for number in range(3):
            body = study_document(f"bad-{number}")
            body["metadata"]["namespace"] = "bad"
            await server.create(STUDY, "bad", body)
        await add_study(server, "sound")
        try:
            async with operating(server, tmp_path) as made:
                looks = asyncio.create_task(made.resync.run())
                await until(lambda: phase(server, "sound") == "Running", "it runs")
                assert not looks.done()
                assert "bad" in made.resync.awaited
                late = await add_study(server, "late", space={"lr": {"choices": [0.3]}})
                await made.study_changed(late.document, is_gone=False)
                await until(lambda: phase(server, "late") == "Running", "one that comes late runs")
                assert {namespace for namespace, _ in made.plans} == {NAMESPACE}
                release.set()
                await until(lambda: not made.resync.awaited, "all are known")
                looks.cancel()
        finally:
            release.set()

    run(go())
