"""Fifty studies of two hundred trials at once: what the operator takes, and whether it stays flat.

    python -m benchmarks.operator_load [--output build/bench/operator_load.json]

Real etcd, API server and MinIO; stand-in pods, as in ``operator_scale``. The studies are of ten
plans; the five of a plan ask for the same trials, so a fifth of all is trained. Then, at a tenth of
the size, through an API server that takes 0.3 s more for each request and shows changes 3 s late.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import leave
from benchmarks.machine import describe_machine
from benchmarks.operator_scale.api_server import ApiServer, start_api_server
from benchmarks.operator_scale.measuring import read_histogram, read_peak_bytes, scrape
from benchmarks.operator_scale.point import HIPPO, Place, _apply, _list, _running
from benchmarks.operator_scale.studies import STEPS, Document, Workload, find_wrong
from tests import minio_server
from tests.chaos.proxy import Asked, Proxy, Spoil
from tests.minio_server import BUCKET, MinioServer, find_free_port

PLANS, STUDIES, TRIALS = 10, 5, 200
PARALLELISM = 8
STEP_SECONDS = 0.1
SLOW_SECONDS, LATE_SECONDS = 0.3, 3.0
LOOK_SECONDS = 5.0
DEADLINE = 2400.0


def build(namespace: str, plans: int, studies: int, trials: int) -> list[Document]:
    """All studies; those of a plan ask for the same trials."""
    schedules = [Workload(trials)._schedule(number) for number in range(trials)]
    return [
        {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": f"load-{plan}-{number}", "namespace": namespace},
            "spec": {
                "objective": {"metric": "score", "goal": "maximize"},
                "steps": STEPS,
                "space": {"lr": {"choices": schedules}},
                "algorithm": {"name": "grid"},
                "priority": number % 3,
                "parallelism": PARALLELISM,
                "trainer": {
                    "entrypoint": "chained:Chained",
                    "config": {"sleep": STEP_SECONDS},
                    "image": "standin:1",
                    "version": str(plan),
                },
            },
        }
        for plan in range(plans)
        for number in range(studies)
    ]


def read_bytes(pid: int) -> int:
    """Memory of a process as it is now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _slow(stack: contextlib.ExitStack, server: ApiServer, kubeconfig: Path) -> Path:
    """The kubeconfig of one who reaches the server through a proxy that delays."""
    admin = json.loads(server.kubeconfig.read_text())
    cluster, user = admin["clusters"][0]["cluster"], admin["users"][0]["user"]
    tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    tls.load_cert_chain(user["client-certificate"], user["client-key"])
    proxy = stack.enter_context(Proxy(cluster["server"], tls=tls).running())

    def rule(asked: Asked) -> Spoil:
        late = "watch=" in asked.path
        return Spoil(lag=LATE_SECONDS) if late else Spoil(wait=SLOW_SECONDS)

    proxy.rule = rule
    config = json.loads(kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": proxy.endpoint}
    config["users"][0]["user"] = {}
    file = kubeconfig.with_suffix(".slow")
    file.write_text(json.dumps(config))
    return file


def measure(
    place: Place, name: str, plans: int, studies: int, trials: int, *, slow: bool
) -> Document:
    kubeconfig = place.server.make_operator(name)
    store, port = f"s3://{BUCKET}/{name}", find_free_port()
    environment = {**os.environ, **place.minio.settings}
    told, log = place.folder / f"{name}.json", place.folder / f"{name}.log"
    memory: list[tuple[float, int]] = []
    pods: list[int] = []
    with contextlib.ExitStack() as stack:
        if slow:
            kubeconfig = _slow(stack, place.server, kubeconfig)
        standin = [sys.executable, "-m", "benchmarks.operator_scale.standin"]
        standin += [str(place.server.kubeconfig), name, store, str(told)]
        stand = stack.enter_context(
            _running(standin, environment, place.folder / f"{name}.standin.log")
        )
        command = [HIPPO, "operator", "--store", store, "--namespace", name]
        operator = stack.enter_context(
            _running(
                [*command, "--metrics-port", str(port)],
                {**environment, "KUBECONFIG": str(kubeconfig)},
                log,
            )
        )
        began = time.monotonic()
        _apply(place, build(name, plans, studies, trials))
        while log.read_text().count("all studies have ended") < plans:
            memory.append((time.monotonic() - began, read_bytes(operator.pid)))
            pods.append(sum(1 for p in _list(place, name, "pods") if _is_at_work(p)))
            if memory[-1][0] > DEADLINE:
                raise TimeoutError(f"{name} has not ended: see {log}")
            assert operator.poll() is None, f"the operator has ended: see {log}"
            time.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - began
        time.sleep(15.0)
        at_rest = read_bytes(operator.pid)
        peak, metrics = read_peak_bytes(operator.pid), scrape(port)
        calls = place.server.count_calls(name) if not slow else {}
        operator.send_signal(signal.SIGTERM)
        operator.wait(60)
        stand.send_signal(signal.SIGTERM)
        stand.wait(60)
    rounds = read_histogram(metrics, "hippo_reconcile_duration_seconds")
    found = _list(place, name, "studies")
    quarter = [b for at, b in memory if at > seconds / 4][:1] or [at_rest]
    stages = plans * (Workload(trials // 2).trunks + trials)
    return {
        "name": name,
        "studies": plans * studies,
        "trials": plans * studies * trials,
        "plans": plans,
        "stages": stages,
        "seconds": seconds,
        "podsAtOnce": max(pods),
        "roundSeconds": {"median": rounds.median, "p90": rounds.p90},
        "callsPerStage": sum(calls.values()) / stages if calls else None,
        "bytes": {"quarter": quarter[0], "end": memory[-1][1], "rest": at_rest, "peak": peak},
        "memory": memory,
        "succeeded": sum(1 for s in found if s["status"]["phase"] == "Succeeded"),
        "wrong": find_wrong(_list(place, name, "trials")),
    }


def _is_at_work(pod: Document) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def table(document: Document) -> str:
    lines = [
        "| studies x trials, plans | stages | until all ended | pods at once |"
        " a round, median / p90 | API calls a stage | memory at a quarter / the end / at rest |"
        " wrong |",
        "| --- |" + " ---: |" * 7,
    ]
    for row in document["points"]:
        sizes = [row["bytes"][key] / 2**20 for key in ("quarter", "end", "rest")]
        calls = f"{row['callsPerStage']:.1f}" if row["callsPerStage"] else ""
        missing = row["studies"] - row["succeeded"]
        lines.append(
            f"| {row['name']}: {row['studies']} x {row['trials'] // row['studies']}, {row['plans']}"
            f" | {row['stages']} | {row['seconds']:.0f} s | {row['podsAtOnce']}"
            f" | {row['roundSeconds']['median']:.2f} / {row['roundSeconds']['p90']:.2f} s | {calls}"
            f" | {sizes[0]:.0f} / {sizes[1]:.0f} / {sizes[2]:.0f} MiB"
            f" | {len(row['wrong']) + missing} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures, as JSON")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    options = parser.parse_args()
    size = (2, 5, 20) if options.quick else (PLANS, STUDIES, TRIALS)
    points: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as text, start_api_server(Path(text)) as server:
        minio_server.RECIPE.build()
        minio = MinioServer(Path(text) / "minio")
        try:
            minio.start()
            minio.make_bucket(BUCKET)
            place = Place(server, minio, Path(text))
            points.append(measure(place, "load", *size, slow=False))
            print(table({"points": points}), file=sys.stderr, flush=True)
            points.append(measure(place, "slow-server", 2, 5, 20, slow=True))
        finally:
            minio.stop()
    document = {
        "command": "python -m benchmarks.operator_load",
        "machine": describe_machine("kopf", "aiohttp", "minio"),
        "points": points,
    }
    leave(document, table(document), options.output)
    wrong = [name for point in points for name in point["wrong"]]
    if wrong:
        sys.exit("wrong: " + "; ".join(wrong[:10]))


if __name__ == "__main__":
    main()
