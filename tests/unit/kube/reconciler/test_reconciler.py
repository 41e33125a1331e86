"""The reconciler of one plan, from one operator to the next, without a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.names import ANNOTATION_ASSIGNMENT
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.state import Cause, PodPhase, PodState, observe
from hippo.kube.reconciler.context import PlanIdentity, Tools
from hippo.kube.reconciler.polling import estimate_poll
from hippo.kube.reconciler.reconciler import Reconciler
from hippo.kube.resources import POD, STUDY, TRIAL
from hippo.kube.settings import Settings
from hippo.kube.status.written import StudyStatuses
from hippo.model import signature, signature_document
from hippo.protocol.reports import Began, CheckpointSaved, Ended, Outcome
from hippo.store import DirectoryBlobs, PlanStore
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, run


class World:
    """A study of one trial; ``open`` is a new operator, after which nothing of the last is left."""

    def __init__(self, tmp_path: Path) -> None:
        self.now: float | None = None  # else time goes by itself
        self.tell: Callable[..., None] = lambda *_: None  # Events
        self.server, self.blobs = MemoryApi(), DirectoryBlobs(tmp_path / "store")
        self.item: Accepted = run(add_study(self.server, "a", space={"lr": {"choices": [0.1]}}))
        self.reconciler = self.make()

    @property
    def studies(self) -> dict[str, Accepted]:
        return {"a": self.item}

    @property
    def store(self) -> PlanStore:
        return PlanStore(self.blobs, f"{NAMESPACE}/{self.reconciler.identity.name}")

    def make(self) -> Reconciler:
        document = signature_document(self.item.study.spec.trainer, None)
        settings = Settings(store="s3://bucket")
        tools = Tools(
            self.server.api,
            self.blobs,
            settings,
            Metrics(),
            lambda *event: self.tell(*event),
            clock=self.clock,
        )
        signed = signature(document)
        identity = PlanIdentity(NAMESPACE, signed[:16], document, signed)
        return Reconciler(identity, tools, StudyStatuses(self.server.api))

    def clock(self) -> float:
        return time.monotonic() if self.now is None else self.now

    async def open(self) -> Reconciler:
        self.reconciler = self.make()
        await self.reconciler.open(self.studies)
        await self.reconciler.advance(self.studies, {}, {})
        return self.reconciler

    def note_costs(self) -> None:
        """What a round notes once its statuses are written."""
        context = self.reconciler._context
        context.plan.note_costs(context.reports.counted, self.reconciler.studies)

    @property
    def charged(self) -> tuple[float, float]:
        study = self.reconciler.engine.studies["a"]
        return study.worker_seconds, study.steps_trained


def began(chain: str, seconds: float = 2.0) -> Began:
    return Began(
        chain=chain,
        sequence_number=0,
        step=0,
        studies=("a",),
        worker_seconds=seconds,
        fingerprint={},
        start_seconds=seconds,
        load_seconds=0.0,
    )


def ended(chain: str, seconds: float, outcome: Outcome = Outcome.PREEMPTED) -> Ended:
    return Ended(
        chain=chain, sequence_number=1, step=4, trained=4, worker_seconds=seconds, outcome=outcome
    )


@pytest.mark.parametrize("when", ["seen", "unseen", "between"])
def test_a_chain_is_charged_once_whoever_saw_it_end(tmp_path: Path, when: str) -> None:
    """Unseen: it ended while no operator was there."""
    world = World(tmp_path)

    async def go() -> None:
        reconciler = await world.open()
        (chain,) = reconciler.engine.chains
        world.store.write_report(began(chain))
        if when != "unseen":
            await reconciler.advance(world.studies, {}, {})
            world.note_costs()
        if when == "seen":
            world.store.write_report(ended(chain, 20.0))
            await reconciler.advance(world.studies, {}, {})
            assert world.charged == (20.0, 4.0)
        await reconciler.release()
        if when != "seen":
            world.store.write_report(ended(chain, 20.0))
        for _ in range(3):
            reconciler = await world.open()
            assert world.charged == (20.0, 4.0)
            assert chain not in reconciler.engine.chains
            world.note_costs()
            await reconciler.release()

    run(go())


def test_a_chain_whose_assignment_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    """Somebody has taken the pod's annotation away, or another version wrote it."""
    world = World(tmp_path)

    async def go() -> None:
        reconciler = await world.open()
        (pod,) = world.server.names(POD)
        await reconciler.release()
        world.server.find(POD, pod)["metadata"]["annotations"][ANNOTATION_ASSIGNMENT] = "{}"
        reconciler = await world.open()
        (chain,) = reconciler.engine.chains
        assert chain.startswith("r2-")
        (other,) = world.server.names(POD)
        assert other != pod

    run(go())


def test_pods_at_work_are_adopted(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def go() -> None:
        reconciler = await world.open()
        chains, pods = list(reconciler.engine.chains), world.server.names(POD)
        for _ in range(2):
            await reconciler.release()
            reconciler = await world.open()
            assert list(reconciler.engine.chains) == chains
            assert world.server.names(POD) == pods

    run(go())


def test_a_study_that_ended_before_its_status_said_so(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def go() -> None:
        reconciler = await world.open()
        await reconciler.release()
        document = world.store.read_study("a")
        document["status"] |= {"state": "Succeeded", "message": "all trials have ended"}
        world.store.write_study("a", document)
        reconciler = await world.open()
        await reconciler.report()
        status = world.server.find(STUDY, "a")["status"]
        assert (status["phase"], status["message"]) == ("Succeeded", "all trials have ended")
        assert status["progress"] == "1/1"
        assert world.server.find(TRIAL, "a-0")["status"]["phase"] == "Stopped"
        assert not [c for c in reconciler.engine.chains.values() if not c.is_leaving]

    run(go())


def test_that_a_study_waits_is_told_at_once_and_other_pods_that_wait_are_not(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)

    async def go() -> None:
        reconciler = await world.open()
        await reconciler.report()
        (chain,) = reconciler.engine.chains
        told_of = [({chain: "no room"}, names.REASON_WAITING), ({}, names.REASON_RUNNING)]
        for waiting, reason in told_of:
            reconciler.watch.waiting = waiting
            await reconciler.report()
            conditions = world.server.find(STUDY, "a")["status"]["conditions"]
            (told,) = [item for item in conditions if item["type"] == names.PROGRESSING]
            assert told["reason"] == reason
        reconciler.watch.waiting = {"another": "no room", "a third": "no room"}
        before = len(world.server.calls)
        await reconciler.report()
        assert len(world.server.calls) == before

    run(go())


def failed(document: dict[str, Any], code: int, words: str) -> PodState:
    """The pod, when its trainer has ended so."""
    ended = {
        "exitCode": code,
        "reason": "Error",
        "message": words,
        "finishedAt": "2026-11-30T10:00Z",
    }
    container = {"name": names.TRAINER_CONTAINER, "state": {"terminated": ended}}
    return observe({**document, "status": {"phase": "Failed", "containerStatuses": [container]}})


def test_a_study_whose_pods_cannot_use_the_store_says_so_until_they_can(tmp_path: Path) -> None:
    """The operator's own keys are good; those of the namespace's Secret are not."""
    world = World(tmp_path)
    events: list[tuple[str, str]] = []
    refused = "http://store refuses the credentials (InvalidAccessKeyId): check AWS_ACCESS_KEY_ID"

    async def go() -> None:
        world.now = 100.0
        world.tell = lambda about, reason, message, is_warning: events.append((reason, message))
        reconciler = world.reconciler = world.make()
        await reconciler.open(world.studies)

        async def look(*, failing: bool) -> tuple[str, str, str]:
            """Reason of the condition, its status, and the message."""
            world.now += 90.0  # longer than every pause
            pods: dict[str, PodState] = {}
            await reconciler.advance(world.studies, pods, {})
            for chain in reconciler.engine.chains if failing else ():
                name = reconciler.chains.pod_of(chain)
                words = f"{chain}: cannot write s3://b/reports/{chain}/0.json: {refused}"
                pods[name] = failed(world.server.find(POD, name), 74, words)
            await reconciler.advance(world.studies, pods, {})
            await reconciler.report()
            status = world.server.find(STUDY, "a")["status"]
            (condition,) = [c for c in status["conditions"] if c["type"] == names.PROGRESSING]
            return condition["reason"], condition["status"], status.get("message", "")

        assert await look(failing=True) == (names.REASON_RUNNING, "True", "")  # once may be chance
        for _ in range(8):  # more than a run on one machine bears
            reason, status, message = await look(failing=True)
            assert (reason, status) == (names.REASON_STORE, "False")
            assert refused in message
            assert f"the Secret {names.STORE_SECRET} in namespace {NAMESPACE}" in message
        assert [reason for reason, _ in events].count(names.REASON_STORE) == 1
        await look(failing=False)
        (chain,) = reconciler.engine.chains
        world.store.write_report(began(chain))
        assert await look(failing=False) == (names.REASON_RUNNING, "True", "")

    run(go())


def test_a_retry_is_told_in_the_message(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def go() -> None:
        reconciler = await world.open()
        (chain,) = reconciler.engine.chains
        pod = reconciler.chains.pod_of(chain)
        state = failed(world.server.find(POD, pod), 1, "Traceback\nValueError: no")
        await reconciler.advance(world.studies, {pod: state}, {})
        await reconciler.report()
        status = world.server.find(STUDY, "a")["status"]
        assert "exit status 1: ValueError: no" in status["message"]
        assert status["message"].endswith("retry 1 of 3 in 5 s")
        assert status["phase"] == "Running"

    run(go())


@pytest.mark.parametrize("retries", [0, 1])
def test_one_failure_is_one_event(tmp_path: Path, retries: int) -> None:
    """Of a worker that could not report its end: what its pod says, and what follows from it."""
    world = World(tmp_path)
    world.item = run(
        add_study(world.server, "b", space={"lr": {"choices": [0.1]}}, retries=retries)
    )
    told: list[tuple[str, str]] = []

    async def go() -> None:
        world.tell = lambda _, *event: told.append(event[:2])
        reconciler = world.make()
        await reconciler.open({"b": world.item})
        (chain,) = reconciler.engine.chains
        pod = PodState(PodPhase.FAILED, Cause.OUT_OF_MEMORY, "out of memory: use less")
        (name,) = world.server.names(POD)
        await reconciler.advance({"b": world.item}, {name: pod}, {})
        said = "; retry 1 of 1 in 5 s" if retries else ""
        assert told == [(names.REASON_CHAIN_FAILED, f"{chain}: out of memory: use less{said}")]

    run(go())


def test_a_study_that_waits_longer_is_no_news(tmp_path: Path) -> None:
    world = World(tmp_path)
    told: list[str] = []

    async def go() -> None:
        reconciler = await world.open()
        world.tell = lambda _, *event: told.append(event[1])
        await reconciler.report()
        (chain,) = reconciler.engine.chains
        told.clear()
        waits = ["used: pods=4, limited: pods=4", "used: pods=9, limited: pods=9", "its image"]
        for message in waits:
            reconciler.watch.waiting = {chain: message}
            reconciler.changes.pending = True
            await reconciler.report()
            conditions = world.server.find(STUDY, "a")["status"]["conditions"]
            assert message in [item["message"] for item in conditions]
        assert told == [waits[0], waits[2]]

    run(go())


def saved(chain: str, step: int, key: str) -> CheckpointSaved:
    return CheckpointSaved(
        chain=chain,
        sequence_number=1,
        step=step,
        trained=step,
        train_seconds=4.0 * step,
        worker_seconds=2.0 + 4.0 * step,
        key=key,
        size=1,
        state_digest="0" * 64,
        copy_seconds=0.0,
        write_seconds=0.0,
    )


@pytest.mark.parametrize(("later", "pause"), [(0.0, 5.0), (6.5, 1.5), (8.0, 0.25), (20.0, 3.0)])
def test_reports_are_looked_for_when_they_are_due_by_the_clock(
    tmp_path: Path, later: float, pause: float
) -> None:
    """Not by the time of the last event: a chain that was to end meanwhile was found up to five
    seconds late. Two steps of four seconds each are ahead.
    """
    world = World(tmp_path)
    world.now = 100.0

    async def go() -> None:
        reconciler = await world.open()
        (chain,) = reconciler.engine.chains.values()
        world.store.write_report(began(chain.name))
        world.store.write_report(saved(chain.name, 2, chain.claim.node.key(2)))
        world.now = 110.0
        await reconciler.advance(world.studies, {}, {})
        assert reconciler.engine.costs.is_known
        world.now = 110.0 + later
        assert estimate_poll(reconciler.engine, world.now) == pytest.approx(pause)

    run(go())


def test_the_gap_between_chains_is_told_from_the_last_step_on(tmp_path: Path) -> None:
    """However late its end was noticed."""
    world = World(tmp_path)
    world.now = 100.0

    async def go() -> None:
        reconciler = await world.open()
        (chain,) = reconciler.engine.chains.values()
        world.store.write_report(began(chain.name, 2.0))
        world.now = 102.0
        await reconciler.advance(world.studies, {}, {})
        world.store.write_report(ended(chain.name, 7.0))  # the step ended then
        world.now = 111.5
        await reconciler.advance(world.studies, {}, {})
        (after,) = reconciler.engine.chains
        assert after != chain.name
        labels = {"namespace": NAMESPACE, "plan": reconciler.identity.name}
        read = reconciler.tools.metrics.registry.get_sample_value
        assert read("hippo_chain_gap_seconds_count", labels) == 1
        assert read("hippo_chain_gap_seconds_sum", labels) == pytest.approx(4.5)

    run(go())


def test_a_study_that_names_no_parallelism_has_the_operator_s_however_idle_others_are(
    tmp_path: Path,
) -> None:
    """Four workers: the other study may have three, and has work for one."""
    server = MemoryApi()

    async def go() -> None:
        rates = {"lr": {"choices": [0.1, 0.2, 0.3, 0.4]}}
        studies = {
            "a": await add_study(server, "a", space=rates),
            "b": await add_study(server, "b", space={"lr": {"choices": [0.5]}}, parallelism=3),
        }
        document = signature_document(studies["a"].study.spec.trainer, None)
        settings = Settings(store="s3://bucket", default_parallelism=1)
        blobs = DirectoryBlobs(tmp_path / "store")
        tools = Tools(server.api, blobs, settings, Metrics(), lambda *_: None)
        signed = signature(document)
        identity = PlanIdentity(NAMESPACE, signed[:16], document, signed)
        reconciler = Reconciler(identity, tools, StudyStatuses(server.api))
        await reconciler.open(studies)
        await reconciler.advance(studies, {}, {})
        assert reconciler.engine.workers == 4
        assert sorted(chain.study for chain in reconciler.engine.chains.values()) == ["a", "b"]

    run(go())
