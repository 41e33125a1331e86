"""Pods of which nothing is heard: when that is told, where, and for how long."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from hippo.engine.state import ChainRun
from hippo.kube import names
from hippo.kube.pods.state import PodPhase, PodState
from hippo.kube.resources import POD, STUDY
from hippo.protocol.reports import CheckpointSaved, Report
from tests.unit.kube.memory import NAMESPACE, run
from tests.unit.kube.reconciler.test_reconciler import World, began

LEAST = 120.0


class Watched(World):
    """One chain whose pod runs; the tests say what time it is."""

    async def begin(self) -> None:
        await self.open()
        (self.chain,) = self.reconciler.engine.chains
        self.events: list[str] = []
        self.tell = self.note
        self.begun_at = self.reconciler.engine.now

    def note(self, _: Any, reason: str, message: str, is_warning: bool) -> None:
        self.events.append(f"{reason} {is_warning}")

    @property
    def running(self) -> ChainRun:
        return self.reconciler.engine.chains[self.chain]

    async def hear(self, report: Report) -> None:
        self.store.write_report(report)
        await asyncio.sleep(0.01)  # between two looks at reports the reconciler rests
        await self.reconciler.advance(self.studies, {}, {})

    async def look(self, seconds: float, *, running: bool = True) -> dict[str, Any] | None:
        """The condition, so many seconds after the last sign of life."""
        chain = self.running
        since = chain.step_time if chain.begun else self.begun_at
        names_ = {self.chain} if running else set()
        self.reconciler.stalls.look(
            self.reconciler.engine, running=names_, now=since + seconds, unix_now=1e9 + seconds
        )
        self.reconciler.changes.pending = True
        await self.reconciler.report()
        conditions = self.server.find(STUDY, "a")["status"]["conditions"]
        return next((item for item in conditions if item["type"] == names.STALLED), None)


def saved(chain: ChainRun, step: int, *, number: int, seconds: float) -> CheckpointSaved:
    return CheckpointSaved(
        chain=chain.name,
        sequence_number=number,
        step=step,
        trained=step,
        train_seconds=seconds,
        worker_seconds=seconds + 2,
        key=chain.claim.node.at(step).key(step),
        size=1,
        state_digest="0",
        copy_seconds=0.0,
        write_seconds=0.0,
    )


def test_a_setup_that_does_not_end_is_told(tmp_path: Path) -> None:
    world = Watched(tmp_path)

    async def go() -> None:
        await world.begin()
        assert await world.look(10 * LEAST, running=False) is None, "its pod waits for a node"
        assert await world.look(0.0) is None
        assert await world.look(LEAST - 1) is None
        told = await world.look(LEAST + 1)
        assert told is not None
        assert (told["status"], told["reason"]) == ("True", "NoStepEnded")
        pod = world.reconciler.chains.pod_of(world.chain)
        assert told["message"] == (
            f"setup() has not ended since 2001-09-09T01:46:40Z: {world.chain} stands at step 0, in"
            f" pod {pod}; see kubectl logs -n {NAMESPACE} {pod} -c trainer"
        )
        assert world.server.find(STUDY, "a")["status"]["message"] == told["message"]
        again = await world.look(2 * LEAST)
        assert again == told, "it is written once"
        assert world.events.count("NoStepEnded True") == 1
        await world.hear(began(world.chain))
        cleared = await world.look(1.0)
        assert cleared is not None
        assert (cleared["status"], cleared["reason"]) == ("False", "Running")
        assert world.server.find(STUDY, "a")["status"]["message"] == ""

    run(go())


def test_silence_is_told_once_a_save_was_due_long_ago(tmp_path: Path) -> None:
    """Nothing is measured yet: ``checkpoints.every``, 10 min, is all that can be relied on."""
    world = Watched(tmp_path)

    async def go() -> None:
        await world.begin()
        await world.hear(began(world.chain))
        assert await world.look(600 + LEAST - 1) is None
        told = await world.look(600 + LEAST + 1)
        assert told is not None
        start = (
            f"no step is known to have ended since 2001-09-09T01:46:40Z: {world.chain} stands at"
        )
        assert told["message"].startswith(f"{start} step 0 or later, in pod ")

    run(go())


def test_what_was_measured_tells_sooner_and_slow_steps_have_more_patience(tmp_path: Path) -> None:
    async def go(world: Watched, step: float, patience: float) -> None:
        await world.begin()
        await world.hear(began(world.chain))
        await world.hear(saved(world.running, 2, number=1, seconds=2 * step))
        assert world.reconciler.engine.costs.mean_step == step
        assert world.running.claim.stop_at == 4
        assert await world.look(patience - 1) is None
        assert await world.look(patience + 1) is not None

    for step, patience in [(0.01, LEAST + 0.04), (20.0, 2 * 2 * 20.0 + 200.0), (1e5, 600.0 + 1e6)]:
        run(go(Watched(tmp_path / str(step)), step, patience))


def test_an_evaluation_that_does_not_end_is_told(tmp_path: Path) -> None:
    world = Watched(tmp_path)

    async def go() -> None:
        await world.begin()
        await world.hear(began(world.chain))
        await world.hear(saved(world.running, 4, number=1, seconds=1.0))
        assert await world.look(LEAST - 1) is None
        told = await world.look(LEAST + 1)
        assert told is not None
        assert told["message"].startswith("evaluate() has not ended since ")

    run(go())


def test_whoever_leaves_or_ends_is_forgotten(tmp_path: Path) -> None:
    world = Watched(tmp_path)

    async def go() -> None:
        await world.begin()
        await world.look(0.0)
        assert await world.look(LEAST + 1) is not None
        del world.reconciler.engine.chains[world.chain]
        assert world.reconciler.stalls.look(
            world.reconciler.engine, running=(), now=1e6, unix_now=1e9
        ), "there are others than before"
        assert not world.reconciler.stalls.found

    run(go())


def test_a_hung_chain_that_nobody_wants_is_removed_after_its_grace(tmp_path: Path) -> None:
    """What it is told through the store it does not hear."""
    world = Watched(tmp_path)

    async def go() -> None:
        await world.begin()
        await world.hear(began(world.chain))
        reconciler, pod = world.reconciler, world.reconciler.chains.pod_of(world.chain)
        suspended = world.item.study.model_copy(
            update={"spec": world.item.study.spec.model_copy(update={"suspend": True})}
        )
        studies = {"a": replace(world.item, study=suspended)}
        moments = [0.0, 599.0, 602.0, 603.0]
        clock = reconciler.tools.clock() + 1.0
        removed = []
        for moment in moments:
            world.now = clock + moment
            await reconciler.advance(studies, {pod: PodState(PodPhase.RUNNING)}, {})
            removed.append(pod not in world.server.names(POD))
        assert reconciler.engine.chains[world.chain].is_leaving
        assert removed == [False, False, True, True]

    run(go())
