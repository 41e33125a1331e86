"""One study on the node, to be disturbed: its site, its store, its witness, and what came of it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hippo.kube.pods.manifest import pod_name
from hippo.protocol.reports import CheckpointSaved, is_bar
from hippo.store import PlanStore, open_blobs
from tests.chaos import proxy
from tests.chaos.outcome import Outcome
from tests.chaos.verdict import weigh
from tests.chaos.witness import Witness
from tests.cluster import Cluster
from tests.cluster.commands import CommandFailed
from tests.cluster.places import NODE_ADDRESS
from tests.e2e.site import Site
from tests.minio_server import BUCKET, MinioServer

Document = dict[str, Any]

STUDY = "study"
STEPS = 40
SPACE: Document = {
    "lr": [
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [milestone]}}
        for milestone in (4, 6, 8, 15, 25)
    ],
    "momentum": [0.9, {"piecewise": [[0, 0.9], [3, 0.5]]}],
}
SPEC: Document = {
    "steps": STEPS,
    "algorithm": {"name": "sha", "eta": 2, "minSteps": 10},
    "maxTrials": 10,
    "parallelism": 3,
    "checkpoints": {"every": "4s"},
}
STEP_SECONDS = 0.3
EVICTED_AFTER_SECONDS = 5
"""A pod leaves a node that does not answer so long after that is known."""
DEADLINE = 600.0
"""Seconds until a study has ended, whatever is done to it."""


class Late(Exception):
    """What was waited for did not come about. One line."""


@dataclass
class Run:
    """Made by :func:`prepared`. A fault calls ``begin`` once it has prepared what it needs."""

    site: Site
    minio: MinioServer
    witness: Witness
    stack: ExitStack
    outcome: Outcome
    more: Document = field(default_factory=dict)
    """Of the trainer's spec."""
    spoilt: set[str] = field(default_factory=set)
    """Pods whose checkpoints were damaged."""
    phases: list[str] = field(default_factory=list)
    """Kinds of writes around which the operator was killed."""
    began: float = 0.0

    # -- what faults do ----------------------------------------------------------------------------

    def begin(self, *options: str, **environment: str) -> None:
        """Start the operator, and apply the study."""
        self.site.start_operator(*options, **environment)
        config = {"sleep": STEP_SECONDS, "witness": self.witness.address}
        trainer = {"entrypoint": "witnessed:Witnessed", **self.more}
        study = self.site.study(STUDY, SPACE, config=config, trainer=trainer, **SPEC)
        study["spec"]["trainer"]["podTemplate"]["spec"]["tolerations"] = [
            {
                "key": f"node.kubernetes.io/{state}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": EVICTED_AFTER_SECONDS,
            }
            for state in ("not-ready", "unreachable")
        ]
        self.began = time.monotonic()
        self.site.apply(study)

    def injected(self, times: int = 1) -> None:
        self.outcome.injected += times

    def wait_until(self, holds: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
        """Raises Late."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise Late(f"not in {seconds:.0f} s: {what}")
            time.sleep(0.1)

    def wait_for_steps(self, more: int) -> None:
        """Until so many more have been trained, or the study has ended."""
        known = len(self.witness.steps)
        self.wait_until(
            lambda: len(self.witness.steps) >= known + more or self.has_ended, f"{more} more steps"
        )

    @property
    def phase(self) -> str:
        """Empty while the API server does not answer."""
        try:
            return str(self.site.status(STUDY).get("phase", ""))
        except CommandFailed:
            return ""

    @property
    def has_ended(self) -> bool:
        return self.phase in ("Succeeded", "Failed", "Rejected")

    def running_pods(self) -> list[str]:
        """At work, and not told to leave."""
        return sorted(
            pod["metadata"]["name"]
            for pod in self.site.pods(STUDY)
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        )

    def wait_for_worker(self, apart_from: set[str]) -> str | None:
        """A pod that trains, and has trained a few steps; None if the study ends before."""
        found: list[str] = []

        def is_there() -> bool:
            counts: dict[str, int] = {}
            for step in self.witness.steps:
                counts[step.worker] = counts.get(step.worker, 0) + 1
            found[:] = [
                name
                for name in self.running_pods()
                if counts.get(name, 0) >= 3 and name not in apart_from
            ]
            return bool(found) or self.has_ended

        self.wait_until(is_there, "a pod trains")
        return found[0] if found else None

    def find_trainer(self, pod: str) -> int | None:
        """The number of its trainer's process on the node."""
        uid = self.site.get("pod", pod)["metadata"]["uid"].encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    uid in (folder / "cgroup").read_bytes()
                    and b"stage_runner" in (folder / "cmdline").read_bytes()
                ):
                    return int(folder.name)
            except OSError:
                continue
        return None

    @property
    def store(self) -> PlanStore:
        """Of the study's plan, without any proxy."""
        before = dict(os.environ)
        os.environ.update(self.minio.settings)
        try:
            blobs = open_blobs(self.site.url)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return PlanStore(blobs, f"{self.site.namespace}/{self.site.plan_name(STUDY)}")

    def put_before(self, target: str, **options: Any) -> proxy.Proxy:
        """A proxy that pods can reach, until the run is over."""
        made = proxy.Proxy(target, host=NODE_ADDRESS, **options)
        return self.stack.enter_context(made.running())

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> Document:
        """Wait for the end and weigh what came of it; returns what the study has decided."""
        self.wait_until(lambda: self.has_ended or not self._is_operated, "the study has ended")
        self.outcome.note(self._is_operated, "the operator has ended by itself")
        self.outcome.makespan = time.monotonic() - self.began
        status = self.site.status(STUDY)
        outcome, plan = self.outcome, status["plan"]
        outcome.note(status["phase"] == "Succeeded", f"{status['phase']}: {status.get('message')}")
        self._check_results()
        self._check_tidy(plan)
        reports = self.store.load().reports
        saved = {
            pod_name(plan, chain): [r.step for r in told if isinstance(r, CheckpointSaved)]
            for chain, told in reports.items()
        }
        work = weigh(self.witness.steps, saved, spoilt=self.spoilt)
        outcome.trained, outcome.again, outcome.unsaved = work.trained, work.again, work.unsaved
        outcome.longest_pause = work.longest_pause
        outcome.problems += work.unexplained
        return decided(self.site)

    @property
    def _is_operated(self) -> bool:
        return self.site.operator is not None and self.site.operator.poll() is None

    def _check_results(self) -> None:
        try:
            self.site.check_results(STUDY)
        except AssertionError as error:
            self.outcome.problems.append(f"a result is wrong: {error}")

    def _check_tidy(self, plan: str) -> None:
        """Nothing is left behind: no chain, no pod at work, no lock, no data that nobody needs."""

        def left() -> list[str]:
            found = [f"chain {c['name']}" for c in self._read_chains(plan)]
            found += [f"pod {name}" for name in self.running_pods()]
            try:
                records = self.store.load()
            except Exception as error:
                return [str(error)]
            reports = records.reports
            found += [
                f"reports of chain {chain}"
                for chain in records.unfolded - records.broken
                if not is_bar(reports[chain][0])  # it keeps a late pod out
            ]
            found += [f"data of {key} without a manifest" for key in records.orphans]
            found += [f"stray {info.name}" for info in records.strays]
            if len(records.manifests) != 1:  # of the best trial, as checkpoints.retain says
                found.append(f"{len(records.manifests)} checkpoints instead of the best trial's")
            return found

        try:
            self.wait_until(lambda: not left(), "nothing is left", 90.0)
        except Late:
            self.outcome.problems += [f"left behind: {item}" for item in left()]
        if not self.spoilt:
            self.outcome.problems += self.store.load().problems

    def _read_chains(self, plan: str) -> list[Document]:
        status = self.site.get("searchplan", plan)["status"]
        return list(status.get("chains", []))


def decided(site: Site) -> Document:
    """All that the study has come to, apart from names and times."""
    status = site.status(STUDY)
    best = (status.get("best") or {}).get("trial")
    trials = [
        {
            "trial": trial["metadata"]["name"],
            "hyperparameters": trial["spec"]["hyperparameters"],
            "steps": trial["spec"]["steps"],
            "phase": trial["status"].get("phase"),
            "step": trial["status"].get("step"),
            "metrics": trial["status"].get("metrics"),
        }
        for trial in site.trials(STUDY)
    ]
    return {"best": best, "trials": trials}


@contextmanager
def prepared(cluster: Cluster, fault: str, folder: Path) -> Iterator[Run]:
    """A namespace, a MinIO and a witness of its own. Whatever happens, all of it goes again."""
    minio = MinioServer(folder / "minio", host=NODE_ADDRESS)
    site = Site(cluster, f"chaos-{uuid.uuid4().hex[:8]}", folder / "operator.log")
    with ExitStack() as stack:
        witness = stack.enter_context(Witness(NODE_ADDRESS).listening())
        stack.callback(minio.stop)
        minio.start()
        minio.make_bucket(BUCKET)
        site.set_up()
        site.store = minio.settings
        stack.callback(site.tear_down)
        yield Run(site, minio, witness, stack, Outcome("cluster", fault))


def send(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
