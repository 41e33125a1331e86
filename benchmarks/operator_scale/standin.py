"""Scheduler, kubelets and trainers of one namespace, in one process until SIGTERM.

    python -m benchmarks.operator_scale.standin KUBECONFIG NAMESPACE STORE FILE

A pod is bound at once, runs a second later, and ends as its worker does; one that is deleted is
told to leave, and is gone when it has. What happened is written to FILE at the end.

Real workers look at their control twice a second each. Here one LIST does it for all, by the ETags:
two thousand requests a second would keep a MinIO on this machine from doing anything else.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minio import Minio

from benchmarks.operator_scale.connection import Connection, Document, connect
from benchmarks.operator_scale.workers import Worker
from hippo.kube import names
from hippo.protocol.assignments import Assignment
from hippo.protocol.reports import Outcome
from hippo.store import PlanStore, open_blobs
from stage_runner.termination import EXIT_CODES
from tests.minio_server import ADMIN, PASSWORD

NODE = "standin"
START_SECONDS = 1.0
"""From a node to a running container."""
IMAGE = "standin@sha256:" + "0" * 64
THREADS = 8
POLL_SECONDS, URGENT_SECONDS = 0.5, 0.1
"""Between two looks at controls; at those of workers that wait at the end of their route."""


class StandIn:
    def __init__(self, connection: Connection, namespace: str, store: str) -> None:
        self._connection = connection
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._store = store
        self._blobs = open_blobs(store)
        self._threads = ThreadPoolExecutor(THREADS, "store")
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by uid of the pod
        self._workers: dict[str, Worker] = {}  # by uid of the pod
        self._seen: dict[str, str] = {}  # ETags of controls, by name of the object
        self.ends: list[float] = []
        """When the last reports of chains were stored; Unix times."""
        self.outcomes: dict[str, int] = {}
        self.most = 0
        """Workers at once."""

    def tell(self) -> Document:
        return {
            "calls": self._connection.calls,
            "ends": sorted(self.ends),
            "outcomes": self.outcomes,
            "most": self.most,
            "cpu": time.process_time(),
        }

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_controls())
            group.create_task(self._read_urgent_controls())
            async for kind, pod in self._connection.watch(
                self._pods, f"labelSelector={names.LABEL_PLAN}"
            ):
                self._heed(kind, pod, group)

    def _heed(self, kind: str, pod: Document, group: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            task = self._tasks.pop(uid, None)
            if task is not None:
                task.cancel()
            self._workers.pop(uid, None)
        elif uid in self._tasks:
            worker = self._workers.get(uid)
            if pod["metadata"].get("deletionTimestamp") and worker is not None:
                worker.is_told_to_leave = True
                worker.stir()
        elif not (pod.get("status") or {}).get("containerStatuses"):
            self._tasks[uid] = group.create_task(self._keep(self._run_pod(pod)))

    async def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """A pod that fails here says so, and leaves the others alone."""
        try:
            await work
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)

    # -- a pod -------------------------------------------------------------------------------------

    async def _run_pod(self, pod: Document) -> None:
        metadata = pod["metadata"]
        uid, path = metadata["uid"], f"{self._pods}/{metadata['name']}"
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"]},
            "target": {"kind": "Node", "name": NODE},
        }
        await self._connection.call("POST", f"{path}/binding", binding)
        await asyncio.sleep(START_SECONDS)
        assignment = Assignment.model_validate_json(
            metadata["annotations"][names.ANNOTATION_ASSIGNMENT]
        )
        plan = f"{metadata['namespace']}/{metadata['labels'][names.LABEL_PLAN]}"
        worker = Worker(assignment, PlanStore(self._blobs, plan), self._threads)
        self._workers[uid] = worker
        self.most = max(self.most, len(self._workers))
        started = _now()
        state: Document = {"running": {"startedAt": started}}
        await self._set_status(path, "Running", state)
        outcome = await worker.run()
        del self._workers[uid]
        assert worker.ended_at is not None
        self.ends.append(worker.ended_at)
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        await self._end_pod(path, outcome, started, is_leaving=worker.is_told_to_leave)

    async def _end_pod(
        self, path: str, outcome: Outcome, started: str, *, is_leaving: bool
    ) -> None:
        code = EXIT_CODES[outcome]
        reason = "Error" if code else "Completed"
        ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": _now()}
        state: Document = {"running": None, "terminated": ended}
        await self._set_status(path, "Failed" if code else "Succeeded", state)
        if is_leaving:
            await self._connection.call("DELETE", path, {"gracePeriodSeconds": 0})

    async def _set_status(self, path: str, phase: str, state: Document) -> None:
        container = {
            "name": names.TRAINER_CONTAINER,
            "image": "standin:1",
            "imageID": IMAGE,
            "ready": "running" in state and phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        body = {"status": {"phase": phase, "containerStatuses": [container]}}
        await self._connection.call("PATCH", f"{path}/status", body, kind="merge-patch+json")

    # -- controls ----------------------------------------------------------------------------------

    async def _read_controls(self) -> None:
        bucket, _, prefix = self._store.removeprefix("s3://").partition("/")
        address = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        client = Minio(address, ADMIN, PASSWORD, secure=False, region="us-east-1")

        def find_changed(places: dict[str, Worker], plans: set[str]) -> list[Worker]:
            changed = []
            for plan in plans:
                for found in client.list_objects(bucket, f"{prefix}/{plan}/control/"):
                    name, tag = str(found.object_name), str(found.etag)
                    worker = places.get(name)
                    if worker is not None and self._seen.get(name) != tag:
                        self._seen[name] = tag
                        changed.append(worker)
            for worker in changed:
                worker.control = worker.store.read_control(worker.assignment.chain)
            return changed

        while True:
            began = time.monotonic()
            workers = list(self._workers.values())
            places = {
                f"{prefix}/{worker.store.plan}/control/{worker.assignment.chain}.json": worker
                for worker in workers
            }
            plans = {worker.store.plan for worker in workers}
            for worker in await asyncio.to_thread(find_changed, places, plans):
                worker.stir()
            await asyncio.sleep(max(POLL_SECONDS, 2 * (time.monotonic() - began)))

    async def _read_urgent_controls(self) -> None:
        """At the end of its route a worker looks more often."""

        def read(worker: Worker) -> None:
            worker.control = worker.store.read_control(worker.assignment.chain)

        while True:
            waiting = [worker for worker in self._workers.values() if worker.is_waiting]
            await asyncio.gather(*(asyncio.to_thread(read, worker) for worker in waiting))
            for worker in waiting:
                worker.stir()
            await asyncio.sleep(URGENT_SECONDS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def stand_in(config: Document, namespace: str, store: str) -> Document:
    """Until SIGTERM; what happened."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with connect(config) as connection:
        made = StandIn(connection, namespace, store)
        work = asyncio.create_task(made.run())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return made.tell()


def main(kubeconfig: str, namespace: str, store: str, file: str) -> None:
    config = json.loads(Path(kubeconfig).read_text())
    told = asyncio.run(stand_in(config, namespace, store))
    Path(file).write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
