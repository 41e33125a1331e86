"""Killed before any of its steps, an operator leaves what the next one goes on from.

A step is a request to the API server or a write to the store; an answer that is lost is a kill
before the next.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hippo.kube.accepted_study import Accepted
from hippo.kube.names import ANNOTATION_ASSIGNMENT
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.manifest import pod_name
from hippo.kube.pods.state import PodState, observe
from hippo.kube.reconciler.context import PlanIdentity, Tools
from hippo.kube.reconciler.reconciler import Reconciler
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY, TRIAL
from hippo.kube.settings import Settings
from hippo.kube.status.written import StudyStatuses
from hippo.model import signature, signature_document
from hippo.protocol.assignments import Assignment
from hippo.store import DirectoryBlobs
from tests.unit.kube.memory import NAMESPACE, MemoryApi, accepted, add_study, add_trial, run

FORK = {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [2]}}


class Killed(BaseException):
    """Nothing is done any more."""


class World:
    def __init__(self, folder: Path) -> None:
        self.server, self.blobs = MemoryApi(), DirectoryBlobs(folder)
        self.first = run(add_study(self.server, "a", space={"lr": {"choices": [0.1, FORK]}}))
        self.second = run(add_study(self.server, "b", algorithm={"name": "external"}, maxTrials=1))
        run(add_trial(self.server, "mine", "b", 0.3))
        self.steps = itertools.count()
        self.fatal = -1
        self.server.fail = lambda *_: self._step()
        put, delete = self.blobs.put, self.blobs.delete

        def counted_put(*arguments: Any, **options: Any) -> bool:
            self._step()
            return put(*arguments, **options)

        def counted_delete(name: str) -> None:
            self._step()
            delete(name)

        self.blobs.put, self.blobs.delete = counted_put, counted_delete  # type: ignore[method-assign]

    def _step(self) -> None:
        if next(self.steps) == self.fatal:
            raise Killed

    async def operate(self, studies: list[Accepted]) -> None:
        """Two rounds, each with its report."""
        document = signature_document(self.first.study.spec.trainer, None)
        signed, settings = signature(document), Settings(store="s3://bucket")
        tools = Tools(self.server.api, self.blobs, settings, Metrics(), lambda *_: None)
        identity = PlanIdentity(NAMESPACE, signed[:16], document, signed)
        reconciler = Reconciler(identity, tools, StudyStatuses(self.server.api))
        names = [item.study.name for item in studies]
        wanted = {name: accepted(self.server.find(STUDY, name)) for name in names}  # as it lists
        try:
            await reconciler.open(wanted)
            for _ in range(2):
                trials = {"mine": self.server.find(TRIAL, "mine")}
                reconciler._context.plan.inbox._due = 0.0
                await reconciler.advance(wanted, self._pods(), trials)
                reconciler.changes.pending = True
                await reconciler.report()
        finally:
            fatal, self.fatal = self.fatal, -1
            steps, self.steps = self.steps, itertools.count()
            with contextlib.suppress(Exception):
                await reconciler.release()  # that it is gone, its process number tells
            self.fatal, self.steps = fatal, steps

    def _pods(self) -> dict[str, PodState]:
        return {name: observe(self.server.find(POD, name)) for name in self.server.names(POD)}

    def state(self) -> dict[str, Any]:
        """What users see, and who trains what; a chain's name is of no account."""
        (plan,) = self.server.names(SEARCH_PLAN)
        chains = self.server.find(SEARCH_PLAN, plan)["status"]["chains"]
        recorded = {pod_name(plan, chain["name"]) for chain in chains}
        assert recorded == set(self.server.names(POD)), "each is recorded, and each has its pod"
        work = []
        for name in self.server.names(POD):
            text = self.server.find(POD, name)["metadata"]["annotations"][ANNOTATION_ASSIGNMENT]
            assignment = Assignment.model_validate_json(text)
            work.append(str((assignment.route, assignment.start)))
        files = {
            info.name: self.blobs.get(info.name)
            for info in self.blobs.list("")
            if any(part in info.name for part in ("/decisions/", "/requests/", "/answers/"))
        }
        return {
            "trials": {
                name: (found["spec"], found.get("status"))
                for name in self.server.names(TRIAL)
                if (found := self.server.find(TRIAL, name))
            },
            "work": sorted(work),
            "files": files,
        }


def kills(tmp_path: Path) -> Iterator[tuple[int, World]]:
    for number in itertools.count():
        world = World(tmp_path / str(number))
        world.fatal = number
        yield number, world


@pytest.mark.slow
def test_wherever_it_is_killed_the_next_goes_on(tmp_path: Path) -> None:
    sound = World(tmp_path / "sound")
    run(sound.operate([sound.first]))
    run(sound.operate([sound.first, sound.second]))
    expected = sound.state()
    assert len(expected["work"]) == 2
    assert set(expected["trials"]) == {"a-0", "a-1", "mine"}
    for number, world in kills(tmp_path):
        was_killed = False
        for studies in ([world.first], [world.first, world.second]):
            try:
                run(world.operate(studies))
            except Killed:
                was_killed = True
        world.fatal = -1
        run(world.operate([world.first, world.second]))
        run(world.operate([world.first, world.second]))
        found = world.state()
        for part, value in expected.items():
            assert found[part] == value, f"{part}, killed before step {number}"
        if not was_killed:
            assert number > 40
            return
