"""All faults by name, and how one is run and held against an undisturbed study."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import (
    clock_faults,
    local_faults,
    local_run,
    node_faults,
    operator_faults,
    pod_faults,
    run,
    store_faults,
)
from tests.chaos.local_run import LocalRun
from tests.chaos.outcome import Outcome
from tests.chaos.run import Run
from tests.cluster import open_cluster
from tests.e2e import crds

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """On the node. Injected by ``inject`` into a study that it begins itself."""

    inject: Callable[[Run], None]
    what: str
    """For the table."""
    is_alone: bool = False
    """It disturbs everything on the node."""
    place = "cluster"


@dataclass(frozen=True, slots=True)
class LocalFault:
    """In the local driver."""

    inject: Callable[[LocalRun], None]
    what: str
    is_alone = False
    place = "local"


def undisturbed(run: Run) -> None:
    run.begin()


CALM = {"cluster": "calm", "local": "local-calm"}
FAULTS: dict[str, Fault | LocalFault] = {
    "local-calm": LocalFault(local_faults.undisturbed, "nothing"),
    "local-killed": LocalFault(local_faults.killed, "`hippo run`: SIGKILL, run again"),
    "local-stopped": LocalFault(local_faults.stopped, "`hippo run`: SIGTERM, run again"),
    "local-server": LocalFault(local_faults.server_killed, "its fork server: SIGKILL, run again"),
    "local-worker-killed": LocalFault(local_faults.workers_killed, "a worker: SIGKILL"),
    "local-worker-term": LocalFault(local_faults.workers_told_to_leave, "a worker: SIGTERM"),
    "local-second": LocalFault(local_faults.second_run, "a second `hippo run` of the same study"),
    "local-corrupted": LocalFault(
        local_faults.corrupted_checkpoints, "a bit of every checkpoint in the store flipped"
    ),
    "local-truncated": LocalFault(
        local_faults.truncated_reports, "every report in the store cut in half"
    ),
    "local-full": LocalFault(local_faults.disk_full, "the store's disk full for 15 s"),
    "local-away": LocalFault(local_faults.store_away, "MinIO: SIGKILL, away for a minute"),
    "local-unreliable": LocalFault(
        local_faults.store_unreliable,
        "MinIO: a tenth of requests refused, a tenth of answers lost",
    ),
    "local-clock": LocalFault(
        local_faults.clock_jumps, "the machine's clock: 1 h ahead, behind, right"
    ),
    "calm": Fault(undisturbed, "nothing"),
    "operator-each-write": Fault(
        operator_faults.killed_at_each_write,
        "operator: SIGKILL before and after each kind of write of a round",
    ),
    "operator-killed": Fault(operator_faults.killed_often, "operator: SIGKILL every few seconds"),
    "operator-second": Fault(
        operator_faults.second_by_mistake, "a second operator under the same identity"
    ),
    "operator-another": Fault(
        operator_faults.second_of_another_name, "a second operator under another identity"
    ),
    "operator-stale": Fault(
        operator_faults.both_with_stale_caches, "two operators, both with caches 5 s behind"
    ),
    "operator-frozen": Fault(
        operator_faults.frozen_while_another_takes_over,
        "operator stopped for 75 s, another takes over, the first wakes up",
    ),
    "api-slow": Fault(
        operator_faults.slow_api_server, "API server: 0.5 s a request, watches 5 s behind"
    ),
    "api-unreliable": Fault(
        operator_faults.unreliable_api_server,
        "API server: a tenth of requests refused, a tenth of answers lost",
    ),
    "pod-killed": Fault(pod_faults.killed, "pod: SIGKILL of the trainer"),
    "pod-term": Fault(pod_faults.told_to_leave, "pod: SIGTERM to the trainer"),
    "pod-memory": Fault(pod_faults.out_of_memory, "pod: out of memory"),
    "pod-evicted": Fault(pod_faults.evicted, "pod: evicted through the API"),
    "pod-deleted": Fault(pod_faults.deleted, "pod: deleted"),
    "pod-forced": Fault(pod_faults.deleted_by_force, "pod: deleted by force, no grace"),
    "plan-deleted": Fault(
        pod_faults.all_deleted_with_the_plan, "the SearchPlan deleted, and with it all pods"
    ),
    "kubelet-killed": Fault(
        node_faults.kubelet_killed, "kubelet: SIGKILL, away for 15 s", is_alone=True
    ),
    "node-not-ready": Fault(
        node_faults.not_ready, "node not ready, its pods told to leave, and back", is_alone=True
    ),
    "api-killed": Fault(
        node_faults.api_server_killed, "API server: SIGKILL, away for 15 s", is_alone=True
    ),
    "etcd-killed": Fault(node_faults.etcd_killed, "etcd: SIGKILL, away for 5 s", is_alone=True),
    "store-away": Fault(store_faults.away, "MinIO: SIGKILL, away for a minute"),
    "store-frozen": Fault(store_faults.frozen, "MinIO takes connections, no answer for 30 s"),
    "store-slow": Fault(store_faults.slow, "MinIO: up to 1.4 s more for each request"),
    "store-unreliable": Fault(
        store_faults.unreliable, "MinIO: a tenth of requests refused, a tenth of answers lost"
    ),
    "store-full": Fault(store_faults.full, "MinIO: its disk full for 30 s"),
    "store-denying": Fault(store_faults.denying, "MinIO: no right to write for 30 s"),
    "checkpoints-corrupted": Fault(
        store_faults.corrupted_checkpoints, "a bit of every checkpoint in the store flipped"
    ),
    "reports-truncated": Fault(
        store_faults.truncated_reports, "every report in the store cut in half"
    ),
    "clock-jumps": Fault(clock_faults.jumps, "operator's clock: 10 min ahead, behind, right"),
    "clock-far": Fault(clock_faults.far_ahead, "operator's clock: 3 h ahead for 20 s"),
}


def run_one(name: str, folder: Path) -> Document:
    """Inject one fault; what came of it, and what the study has decided."""
    fault = FAULTS[name]
    outcome, decided, phases = Outcome(fault.place, name), {}, list[str]()
    try:
        if isinstance(fault, LocalFault):
            with local_run.prepared(name, folder) as local:
                outcome = local.outcome
                fault.inject(local)
                decided = local.finish()
        else:
            cluster = open_cluster()
            crds.install(cluster)
            with run.prepared(cluster, name, folder) as disturbed:
                outcome = disturbed.outcome
                try:
                    fault.inject(disturbed)
                    decided = disturbed.finish()
                except BaseException:
                    (folder / "state").write_text(disturbed.site.describe())
                    raise
                phases = disturbed.phases
    except (Exception, pytest.fail.Exception) as error:
        outcome.problems.insert(0, f"{type(error).__name__}: {error}")
        (folder / "traceback").write_text(traceback.format_exc())
    return {**outcome.document(), "decided": decided, "phases": phases}


def compare(rows: list[Document]) -> list[Document]:
    """The same rows; problems now name what a study decided otherwise than an undisturbed one."""
    calm: Document = {}
    for row in rows:
        if row["fault"] == CALM[row["place"]] and row["decided"]:
            calm.setdefault(row["place"], row["decided"])
    compared = []
    for row in rows:
        expected, found = calm.get(row["place"]), row["decided"]
        problems = list(row["problems"])
        if expected and found and found != expected:
            problems.append(f"not as undisturbed: {_differences(found, expected)}")
        compared.append({**row, "problems": problems})
    return compared


def _differences(found: Document, expected: Document) -> str:
    pairs = zip(found["trials"], expected["trials"], strict=False)
    trials = [f"{json.dumps(one)}, not {json.dumps(other)}" for one, other in pairs if one != other]
    return "; ".join([*trials[:3], f"best {found['best']}, not {expected['best']}"])
