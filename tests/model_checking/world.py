"""The whole model: a cluster with a node, a store, operators; and what must never happen."""

from __future__ import annotations

import base64
import functools
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

from hippo.gc import sweep
from hippo.kube import names
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY, TRIAL, Document
from hippo.protocol.assignments import Assignment
from hippo.store import PlanStore
from tests.model_checking.faults import Killed
from tests.model_checking.operators import EPOCH, ModelledOperator
from tests.model_checking.running import Runner
from tests.model_checking.server import Server
from tests.model_checking.store import MemoryBlobs
from tests.model_checking.workers import Worker
from tests.unit.kube.memory import NAMESPACE, study_document
from tests.world import train_alone

FINAL = ("Succeeded", "Failed")
LOCK_SECONDS = 61.0


async def _inline(call: Any, /, *arguments: Any, **options: Any) -> Any:
    """As asyncio.to_thread, without a thread: each run gives the same."""
    return call(*arguments, **options)


class World:
    def __init__(self) -> None:
        self.server = Server()
        self.blobs: dict[str, bytes] = {}
        self.operators: dict[int, ModelledOperator] = {}
        self.workers: dict[str, Worker] = {}  # by uid of the pod
        self.zombies: list[Worker] = []
        self.trained: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()  # steps that may be trained once more
        self.is_strict = True
        """No study has come late, or gone: no state was let go that another needs."""
        self.problems: list[str] = []
        self.steps = 0
        self._decisions: dict[str, bytes] = {}
        self._ended: dict[
            tuple[str, ...], str
        ] = {}  # phases of studies, by what users have written
        self._were_final: dict[str, bool] = {}  # studies, by uid
        self.transitions: Counter[str] = Counter()
        """Of phases of studies and trials, as somebody who looks after every step sees them."""
        self._phases: dict[str, str] = {}  # by uid
        self.reopened = 0
        self._results: dict[str, Any] = {}  # of trials, by name
        self.operators_made = 0
        self.taken_back = 0  # pods that were told to leave before they had begun
        self._runner = Runner()
        self._without_threads = mock.patch("asyncio.to_thread", _inline)
        self._without_threads.start()

    @classmethod
    def restored(cls, document: Document) -> World:
        """As it was left by ``tests.golden.make``; its trainers are no longer at work."""
        world = cls()
        for plural, namespace, name, found in document["objects"]:
            world.server.objects[plural, namespace, name] = found
        world.server.count_from(10_000)
        world.blobs |= {n: base64.b64decode(data) for n, data in document["blobs"].items()}
        world.trained.update(document["trained"])
        world.lost.update(document["unsaved"])
        return world

    def close(self) -> None:
        self._runner.close()
        self._without_threads.stop()

    # -- operators ---------------------------------------------------------------------------------

    def start_operator(self, slot: int, identity: str) -> None:
        self.operators_made += 1
        made = ModelledOperator(self.server, self.blobs, identity, self.operators_made)
        self.operators[slot] = made
        self.run(slot, made.start())

    def kill_operator(self, slot: int) -> None:
        operator = self.operators.pop(slot, None)
        if operator is not None:
            self._runner.kill(operator.number)

    def take_turn(self, slot: int) -> None:
        """Each of its plans has a round."""
        for worker in self.operators[slot].plans:
            if slot in self.free_operators() and not worker.is_over:
                self.run(slot, worker.take_turn())

    def catch_up(self, slot: int) -> None:
        """Its watches tell an operator of all that has changed."""
        operator = self.operators[slot]
        for key in operator.behind():
            self.run(slot, operator.deliver(key))

    def go_on(self, rounds: int = 1, *, actions: int | None = None, seconds: float = 0.0) -> None:
        """Rounds of the operator in slot 0, which knows all; after each, pods begin and do so many
        actions (None: they stand still), and so many seconds pass.
        """
        for _ in range(rounds):
            self.catch_up(0)
            self.take_turn(0)
            if actions is not None:
                self.serve_pods(actions)
            self.server.now += seconds

    def free_operators(self) -> dict[int, ModelledOperator]:
        """Those that are not held up."""
        return {
            slot: operator
            for slot, operator in self.operators.items()
            if not self._runner.is_held(operator.number)
        }

    def run(self, slot: int, work: Coroutine[Any, Any, Any]) -> None:
        """Let an operator do something; it may be killed in the middle, and then is gone."""
        self._guard(slot, lambda o: self._runner.run(o.number, o.faults, work))

    def resume(self, slot: int) -> None:
        """What it was held up in goes on."""
        if slot not in self.free_operators():
            self._guard(slot, lambda o: self._runner.resume(o.number, o.faults))

    def _guard(self, slot: int, act: Callable[[ModelledOperator], None]) -> None:
        try:
            act(self.operators[slot])
        except Killed:
            self.kill_operator(slot)

    # -- users -------------------------------------------------------------------------------------

    def apply(self, name: str, **spec: Any) -> None:
        body = study_document(name, **spec)
        body["spec"]["objective"] = {"metric": "score", "goal": "maximize"}
        self._runner.do(self.server.create(STUDY, NAMESPACE, body))

    def annotate(self, name: str, wish: str) -> None:
        """Ask that failed trials are tried again, as kubectl annotate does."""
        found = self.server.objects[STUDY.plural, NAMESPACE, name]
        found["metadata"].setdefault("annotations", {})[names.ANNOTATION_RETRY] = wish
        self.server.touch(found)

    def studies(self) -> list[Document]:
        return [self.server.find(STUDY, name) for name in self.server.names(STUDY)]

    def delete_study(self, name: str) -> None:
        self.is_strict = False
        self.server.remove(STUDY, name)
        self.server.collect_garbage()

    # -- the node ----------------------------------------------------------------------------------

    def pods(self, *phases: str) -> list[Document]:
        return [pod for pod in self.server.pods() if _phase(pod) in phases]

    def serve_pods(self, actions: int) -> None:
        """Pods that wait begin, and those that run do so much."""
        for pod in self.pods("Pending"):
            self.start_pod(pod)
        for pod in self.pods("Running"):
            if pod["metadata"]["uid"] not in self.workers:  # it was there before the model was
                continue
            for _ in range(actions):
                if pod["metadata"]["uid"] in self.workers:
                    self.work(pod)

    def start_pod(self, pod: Document) -> None:
        """Its container begins, unless it is to leave."""
        if "deletionTimestamp" in pod["metadata"]:
            self.taken_back += 1
            self.server.remove(POD, pod["metadata"]["name"])
            return
        text = pod["metadata"]["annotations"][names.ANNOTATION_ASSIGNMENT]
        assignment = Assignment.model_validate_json(text)
        plan = pod["metadata"]["labels"][names.LABEL_PLAN]
        store = PlanStore(MemoryBlobs(self.blobs), f"{NAMESPACE}/{plan}")
        worker = Worker(assignment, store, lambda: self.server.now)
        worker.on_trained = functools.partial(self._note_trained, worker)
        if pod["metadata"]["name"] in self.server.unrecorded:
            worker.on_trained = functools.partial(self._note_unrecorded, worker)
        self.workers[pod["metadata"]["uid"]] = worker
        self.server.set_pod_status(pod, _status("Running", {"running": {}}))

    def refuse_room(self, pod: Document) -> None:
        """No node has room for it now; it may begin at any moment."""
        words = "0/1 nodes are available: 1 Insufficient cpu"
        unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        status = {"phase": "Pending", "conditions": [{**unscheduled, "message": words}]}
        self.server.set_pod_status(pod, status)

    def work(self, pod: Document) -> None:
        """One action of its trainer; or its node notices that it has ended."""
        worker = self.workers[pod["metadata"]["uid"]]
        worker.is_told_to_leave |= "deletionTimestamp" in pod["metadata"]
        if not self._advance(worker):
            self._end(pod, worker.exit_code)

    def work_unseen(self) -> None:
        """One action of each trainer on a node that was lost."""
        self.zombies = [worker for worker in self.zombies if self._advance(worker)]

    @staticmethod
    def _advance(worker: Worker) -> bool:
        return next(worker.steps, worker) is None

    def _end(self, pod: Document, code: int, reason: str = "Error") -> None:
        worker = self.workers.pop(pod["metadata"]["uid"])
        self.lost.update(worker.unsaved)
        if "deletionTimestamp" in pod["metadata"]:
            self.server.remove(POD, pod["metadata"]["name"])
            return
        ended = {"terminated": {"exitCode": code, "reason": reason if code else "Completed"}}
        self.server.set_pod_status(pod, _status("Failed" if code else "Succeeded", ended))

    def kill_pod(self, pod: Document, code: int, reason: str) -> None:
        self._end(pod, code, reason)

    def evict(self, pod: Document) -> None:
        self._end(pod, 137)
        name = pod["metadata"]["name"]
        if (POD.plural, NAMESPACE, name) in self.server.objects:
            pod["status"] |= {"reason": "Evicted", "message": "The node was low on memory"}

    def lose_node(self, pod: Document) -> None:
        """The pod's object is gone, by force; its trainer goes on where nobody sees it."""
        worker = self.workers.pop(pod["metadata"]["uid"])
        self.lost.update(worker.unsaved)
        worker.on_trained = lambda key: None
        self.zombies.append(worker)
        self.server.remove(POD, pod["metadata"]["name"])

    def _note_trained(self, worker: Worker, key: str) -> None:
        self.trained[key] += 1
        if self.trained[key] == 1 or not self.is_strict:
            return
        if self.lost[key] <= 0:
            self.problems.append(f"{worker.assignment.chain} trains again what is not lost: {key}")
        self.lost[key] -= 1

    def _note_unrecorded(self, worker: Worker, key: str) -> None:
        chain = worker.assignment.chain
        self.problems.append(f"{chain} trains, and no SearchPlan told of it when its pod was made")

    def forget_what_is_gone(self) -> None:
        """The model's own notes of objects that are gone, so that a long run stays small."""
        uids = {found["metadata"]["uid"] for found in self.server.objects.values()}
        self._ended = {written: p for written, p in self._ended.items() if written[0] in uids}
        self._results.clear()
        self._decisions = {n: d for n, d in self._decisions.items() if n in self.blobs}
        self.trained.clear()
        self.lost.clear()
        self.server.calls.clear()
        self.server.unrecorded.clear()

    # -- what must hold ----------------------------------------------------------------------------

    def check(self) -> None:
        """After every step."""
        assert not self.problems, self.problems
        assert not self.server.early_ends, self.server.early_ends
        for name, data in self.blobs.items():
            if "/decisions/" in name:
                assert self._decisions.setdefault(name, data) == data, f"{name} was rewritten"
        for study in self.studies():
            written, phase = _written(study), (study.get("status") or {}).get("phase")
            before = self._ended.get(written)
            assert before in (None, phase), f"{study['metadata']['name']}: {before}, then {phase}"
            if phase in FINAL and _seen(study) == written:
                self._ended[written] = phase
            self._note_phase("study", study)
            is_final = phase in FINAL
            self.reopened += self._were_final.get(written[0], False) and not is_final
            self._were_final[written[0]] = is_final
        for name in self.server.names(TRIAL):
            found = self.server.find(TRIAL, name)
            self._note_phase("trial", found)
            key = found["metadata"]["uid"]
            results = {
                item["step"]: item["metrics"]
                for item in [found.get("status") or {}]
                if "step" in item
            }
            for step, metrics in results.items():
                known = self._results.setdefault(f"{key} {step}", metrics)
                assert known == metrics, f"{name}: a result has changed"
        for name in self.server.names(SEARCH_PLAN):
            assert len(json.dumps(self.server.find(SEARCH_PLAN, name))) < 65_536

    def _note_phase(self, what: str, found: Document) -> None:
        uid, phase = found["metadata"]["uid"], _phase(found) or "new"
        before = self._phases.setdefault(uid, "new")
        if phase != before:
            self.transitions[f"{what} {before} -> {phase}"] += 1
            self._phases[uid] = phase

    def check_end(self) -> None:
        """Once all has come to rest."""
        for study in self.studies():
            status = study["status"]
            assert status["phase"] == "Succeeded", status
        for name in self.server.names(TRIAL):
            found = self.server.find(TRIAL, name)
            spec, status = found["spec"], found["status"]
            horizon = self.server.find(STUDY, spec["study"])["spec"]["steps"]
            seed = spec.get("seed", 0)
            expected = train_alone(spec["hyperparameters"], horizon, status["step"], seed)[1]
            assert status["metrics"] == expected, name
        assert not [pod for pod in self.server.pods() if _phase(pod) in ("Pending", "Running")]
        for name in self.server.names(SEARCH_PLAN):
            assert not self.server.find(SEARCH_PLAN, name)["status"]["chains"]
            store = PlanStore(MemoryBlobs(self.blobs), f"{NAMESPACE}/{name}")
            sweep(store, now=EPOCH + self.server.now)  # as the operator does every hour
            records = store.load()
            assert not records.problems
            assert not records.orphans
            assert not records.strays


def _written(study: Document) -> tuple[str, ...]:
    """Tells apart what users have asked of a study."""
    metadata = study["metadata"]
    retry = (metadata.get("annotations") or {}).get(names.ANNOTATION_RETRY, "")
    return metadata["uid"], str(metadata["generation"]), retry


def _seen(study: Document) -> tuple[str, ...]:
    """The same, as its status tells of what was taken in."""
    status = study["status"]
    generation = str(status["observedGeneration"])
    return study["metadata"]["uid"], generation, status.get("retried") or ""


def _phase(pod: Document) -> str:
    return str((pod.get("status") or {}).get("phase", "Pending"))


def _status(phase: str, state: Document) -> Document:
    container = {"name": names.TRAINER_CONTAINER, "state": state, "imageID": "sha256:one"}
    return {"phase": phase, "containerStatuses": [container]}
