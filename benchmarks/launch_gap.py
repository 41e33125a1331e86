"""From a chain's end to the next pod's creation, on the real node of the end-to-end tests.

A study of trials that share nothing, each a chain and a pod of its own, with as many pods at once
as ``PARALLELISM``: whenever a chain has ended, another one is to begin. A chain has ended when its
last report is in the store (by the store's clock), and a pod is created when the operator's log
says so; both clocks are this machine's.

    python -m benchmarks.launch_gap
"""

from __future__ import annotations

import statistics
import tempfile
import uuid
from datetime import datetime
from pathlib import Path

from minio import Minio

from tests.cluster import Cluster, open_cluster
from tests.e2e.site import Site
from tests.minio_server import ADMIN, BUCKET, PASSWORD

TRIALS = 60
PARALLELISM = 3
CRDS = Path(__file__).parents[1] / "crds"


def main() -> None:
    cluster = open_cluster()
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "operator.log"
        site = Site(cluster, f"gap-{uuid.uuid4().hex[:8]}", log)
        site.set_up()
        try:
            site.start_operator()
            values = [round(0.001 * (index + 1), 3) for index in range(TRIALS)]
            site.apply(
                site.study(
                    "gap",
                    {"lr": values},
                    steps=4,
                    parallelism=PARALLELISM,
                    config={"sleep": 0.25},
                )
            )
            plan = site.wait_for("gap", "Running")["plan"]
            prefix = f"{site.namespace}/{site.namespace}/{plan}/reports/"
            seen: dict[str, float] = {}

            def has_ended() -> bool:
                read_ends(cluster, prefix, seen)  # before reports are folded
                return site.status("gap")["phase"] in ("Succeeded", "Failed")

            site.wait_until(has_ended, "the study has ended", seconds=900)
            read_ends(cluster, prefix, seen)
            ends, created = sorted(seen.values()), read_creations(log)
        finally:
            site.tear_down()
    assert len(ends) == len(created) == TRIALS, (len(ends), len(created))
    gaps = [pod - end for pod, end in zip(created[PARALLELISM:], ends, strict=False)]
    ordered = sorted(gaps)
    print(f"{TRIALS} chains, {PARALLELISM} at once; from an end to the next creation:")
    print(
        f"median {statistics.median(gaps):.2f} s, 90 % below {ordered[int(0.9 * len(gaps))]:.2f} s,"
        f" most {ordered[-1]:.2f} s"
    )


def read_ends(cluster: Cluster, prefix: str, seen: dict[str, float]) -> None:
    """Note when the last report of each chain was stored; Unix time."""
    address = str(cluster.minio_url).removeprefix("http://")
    client = Minio(address, ADMIN, PASSWORD, secure=False, region="us-east-1")
    for found in client.list_objects(BUCKET, prefix, recursive=True):
        assert found.object_name is not None
        assert found.last_modified is not None
        chain = found.object_name.removeprefix(prefix).partition("/")[0]
        seen[chain] = max(seen.get(chain, 0.0), found.last_modified.timestamp())


def read_creations(log: Path) -> list[float]:
    """When pods were created, by the operator's log, ascending; Unix time."""
    found = []
    for line in log.read_text().splitlines():
        if line.endswith("is created"):
            moment = line[1 : line.index("]")]
            found.append(datetime.strptime(moment, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp())
    return sorted(found)


if __name__ == "__main__":
    main()
