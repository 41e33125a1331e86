"""One point: so many pods at once, from the studies' creation to their end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.launch_gap import read_creations
from benchmarks.operator_scale.api_server import ApiServer
from benchmarks.operator_scale.measuring import (
    measure_gaps,
    read_cpu_seconds,
    read_histogram,
    read_peak_bytes,
    scrape,
)
from benchmarks.operator_scale.studies import Document, Workload, find_wrong
from hippo.store import PlanStore, open_blobs
from tests.minio_server import BUCKET, MinioServer, find_free_port

HIPPO = str(Path(sys.executable).with_name("hippo"))
LOOK_SECONDS = 3.0
EXIT_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """Where points are measured. ``minio``: started, with the bucket."""

    server: ApiServer
    minio: MinioServer
    folder: Path


@dataclass
class Sizes:
    """The most that was seen of each, in bytes of JSON, and of pods."""

    study: int = 0
    plan: int = 0
    plan_object: int = 0
    chains: int = 0
    load: list[float] = field(default_factory=list)

    def look(self, place: Place, namespace: str) -> None:
        found = _list(place, namespace, "studies")
        (plan,) = _list(place, namespace, "searchplans") or [{}]
        self.study = max([self.study, *(_size(s.get("status") or {}) for s in found)])
        status = plan.get("status") or {}
        self.plan = max(self.plan, _size(status))
        self.plan_object = max(self.plan_object, _size(plan))
        self.chains = max(self.chains, len(status.get("chains", ())))
        self.load.append(os.getloadavg()[0])


def measure(place: Place, pods: int, *, deadline: float) -> Document:
    """Raises TimeoutError if the studies have not ended after ``deadline`` seconds."""
    workload = Workload(pods)
    namespace = f"pods-{pods}"
    kubeconfig = place.server.make_operator(namespace)
    store = f"s3://{BUCKET}/{namespace}"
    environment = {**os.environ, **place.minio.settings}
    told, log = place.folder / f"{namespace}.json", place.folder / f"{namespace}.log"
    port = find_free_port()
    sizes = Sizes()
    servers = {**place.server.pids, "minio": place.minio.pid}
    with contextlib.ExitStack() as stack:
        standin = stack.enter_context(
            _running(
                [
                    *(sys.executable, "-m", "benchmarks.operator_scale.standin"),
                    *(str(place.server.kubeconfig), namespace, store, str(told)),
                ],
                environment,
                place.folder / f"{namespace}.standin.log",
            )
        )
        command = [HIPPO, "operator", "--store", store, "--namespace", namespace]
        command += ["--metrics-port", str(port), "--max-workers", str(pods)]
        operator = stack.enter_context(
            _running(command, {**environment, "KUBECONFIG": str(kubeconfig)}, log)
        )
        before = {name: read_cpu_seconds(pid) for name, pid in servers.items()}
        began = time.monotonic()
        _apply(place, workload.build(namespace))
        while "all studies have ended" not in log.read_text():
            sizes.look(place, namespace)
            if time.monotonic() - began > deadline:
                raise TimeoutError(f"{namespace} has not ended: see {log}")
            assert operator.poll() is None, f"the operator has ended: see {log}"
            time.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - began
        sizes.look(place, namespace)
        cpu = {name: read_cpu_seconds(pid) - before[name] for name, pid in servers.items()}
        cpu["operator"] = read_cpu_seconds(operator.pid)
        peak = read_peak_bytes(operator.pid)
        metrics = scrape(port)
        calls = place.server.count_calls(namespace)
        operator.send_signal(signal.SIGTERM)
        operator.wait(EXIT_SECONDS)
        standin.send_signal(signal.SIGTERM)
        standin.wait(EXIT_SECONDS)
    said = json.loads(told.read_text())
    cpu["standin"] = said["cpu"]
    gap, late_gap = measure_gaps(said["ends"], read_creations(log), pods)
    reconcile = read_histogram(metrics, "hippo_reconcile_duration_seconds")
    lag = read_histogram(metrics, "hippo_report_lag_seconds")
    return {
        "pods": pods,
        "podsAtOnce": said["most"],
        "trials": workload.trials,
        "stages": workload.stages,
        "seconds": seconds,
        "loadAverage": sum(sizes.load) / len(sizes.load),
        "reconcileSeconds": asdict(reconcile),
        "reportLagSeconds": asdict(lag),
        "gapSeconds": {"median": gap, "p90": late_gap},
        "calls": {" ".join(key): count for key, count in sorted(calls.items())},
        "callsByVerb": dict(sorted(_by_verb(calls).items())),
        "cpuSeconds": cpu,
        "operatorPeakBytes": peak,
        "statusBytes": {"study": sizes.study, "plan": sizes.plan, "planObject": sizes.plan_object},
        "objects": _count_objects(place, namespace),
        "wrong": _check(place, namespace, workload, environment),
    }


def _check(
    place: Place, namespace: str, workload: Workload, environment: dict[str, str]
) -> list[str]:
    """What is not as it has to be; empty if all is."""
    trials = _list(place, namespace, "trials")
    wrong = [f"trial {name}" for name in find_wrong(trials)]
    if len(trials) != workload.trials:
        wrong.append(f"{len(trials)} trials instead of {workload.trials}")
    (plan,) = _list(place, namespace, "searchplans")
    records = PlanStore(
        open_store(f"s3://{BUCKET}/{namespace}", environment),
        f"{namespace}/{plan['metadata']['name']}",
    ).load()
    wrong += records.problems
    trained = sum(reports[-1].trained for reports in records.reports.values())
    if not trained == workload.unique_steps == plan["status"]["stepsTrained"]:
        wrong.append(
            f"{trained} steps trained, {plan['status']['stepsTrained']} told, instead of"
            f" {workload.unique_steps}"
        )
    return wrong


def open_store(url: str, environment: dict[str, str]) -> Any:
    """Its settings come from the environment, for as long as it takes to read them."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return open_blobs(url)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _by_verb(calls: Counter[tuple[str, str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (verb, _), count in calls.items():
        found[verb] += count
    return found


def _count_objects(place: Place, namespace: str) -> dict[str, int]:
    kinds = ("studies", "searchplans", "trials", "pods", "events")
    return {kind: len(_list(place, namespace, kind)) for kind in kinds}


def _list(place: Place, namespace: str, kind: str) -> list[Document]:
    words = ("get", kind, "-n", namespace, "-o", "json", "--show-managed-fields")
    text = place.server.kubectl(*words)
    found: list[Document] = json.loads(text)["items"]
    return found


def _apply(place: Place, documents: list[Document]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": documents}
    place.server.kubectl("create", "-f", "-", input=json.dumps(items))


def _size(document: Document) -> int:
    return len(json.dumps(document, separators=(",", ":")).encode())


@contextlib.contextmanager
def _running(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its output in the log; it is over when this is."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(EXIT_SECONDS)
