"""A namespace of the test cluster with an operator of its own, as a platform team would set it up.

The operator runs beside the cluster, as a process that tests may kill, by the rights of its own
service account where that matters (``test_chart.py`` installs it with Helm, in a pod).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hippo.model import Sequence
from hippo.store import PlanStore, open_blobs
from tests.cluster import Cluster
from tests.e2e.trainers.chained import continued, score
from tests.minio_server import ADMIN, BUCKET, PASSWORD, find_free_port

HIPPO = str(Path(sys.executable).with_name("hippo"))
TRAINERS = Path(__file__).parent / "trainers"
DEADLINE = 180.0
"""Seconds; far more than anything here takes."""
CODE = "trainer-code"
"""ConfigMap with the modules of ``trainers``."""

Document = dict[str, Any]


@dataclass
class Site:
    """Made by the fixture ``site``. ``url``: of its store, as the operator and pods reach it."""

    cluster: Cluster
    namespace: str
    log: Path
    url: str = ""
    port: int = field(default_factory=find_free_port)
    operator: subprocess.Popen[bytes] | None = None
    read_log: Callable[[], str] | None = None
    """Of an operator that is not ours, such as a chart's."""
    store: dict[str, str] = field(default_factory=dict)
    """Environment of whoever uses a store that is not the cluster's own."""
    launcher: tuple[str, ...] = ()
    """Before the operator's command."""

    def set_up(self) -> None:
        """Namespace, Pod Security, the Secret of the store, the trainers' code."""
        if self.cluster.minio_url is None:
            pytest.skip("this test needs the cluster's own MinIO")
        self.url = f"s3://{BUCKET}/{self.namespace}"
        self.kubectl("create", "namespace", self.namespace)
        enforce = "pod-security.kubernetes.io/enforce=restricted"
        self.kubectl("label", "namespace", self.namespace, enforce)
        keys = [f"--from-literal={name}={value}" for name, value in self.keys.items()]
        self.kubectl("create", "secret", "generic", "hippo-store", *keys)
        self.kubectl("create", "configmap", CODE, f"--from-file={TRAINERS}")

    def tear_down(self) -> None:
        self.stop_operator(signal.SIGKILL)
        self.kubectl("delete", "namespace", self.namespace, "--wait=false")

    @property
    def keys(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": ADMIN, "AWS_SECRET_ACCESS_KEY": PASSWORD}

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever uses the store from this machine."""
        names = ("PATH", "HOME", "PYTHONPATH")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        return {
            **kept,
            **self.keys,
            "AWS_ENDPOINT_URL": str(self.cluster.minio_url),
            "AWS_EC2_METADATA_DISABLED": "true",
            "KUBECONFIG": str(self.cluster.kubeconfig),
            **self.store,
        }

    # -- the operator ------------------------------------------------------------------------------

    def start_operator(self, *options: str, **environment: str) -> None:
        self.operator = self.launch_operator(self.log, self.port, *options, **environment)

    def launch_operator(
        self, log: Path, port: int, *options: str, **environment: str
    ) -> subprocess.Popen[bytes]:
        """One that is the caller's to end."""
        command = [*self.launcher, HIPPO, "operator", "--store", self.url]
        command += ["--namespace", self.namespace, "--metrics-port", str(port), "--resync", "10"]
        with log.open("ab") as file:
            return subprocess.Popen(
                [*command, *options], env={**self.environment, **environment}, stderr=file
            )

    def stop_operator(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.operator is not None:
            self.operator.send_signal(number)
            self.operator.wait(60)
            self.operator = None

    # -- objects -----------------------------------------------------------------------------------

    def kubectl(self, *words: str, input: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, input=input, check=check)

    def apply(self, *documents: Document) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "-f", "-", input=json.dumps(items))

    def get(self, kind: str, name: str) -> Document:
        return self.cluster.reader.get(self.namespace, kind, name)

    def list(self, kind: str, labels: str = "") -> list[Document]:
        return self.cluster.reader.list(self.namespace, kind, labels)

    def patch(self, kind: str, name: str, spec: Document) -> None:
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def status(self, study: str) -> Document:
        found: Document = self.get("study", study).get("status") or {}
        return found

    def condition(self, study: str, type_: str) -> Document | None:
        found = self.status(study).get("conditions", [])
        return next((condition for condition in found if condition["type"] == type_), None)

    def events(self, name: str) -> list[Document]:
        found = self.list("events")
        return [event for event in found if event["involvedObject"]["name"] == name]

    def told(self, study: str, reason: str) -> str:
        """The messages of a study's Events of this reason, each on its line."""
        found = [event["message"] for event in self.events(study) if event["reason"] == reason]
        return "\n".join(found)

    def wait_for_event(self, study: str, reason: str, text: str = "", *, times: int = 1) -> str:
        """The messages, once so many Events of this reason contain the text: they are posted beside
        statuses, and come later.
        """

        def is_told() -> bool:
            lines = self.told(study, reason).splitlines()
            return sum(text in line for line in lines) >= times

        self.wait_until(is_told, f"{times} Events {reason} on {study}: {text}")
        return self.told(study, reason)

    def wait_for_reasons(self, study: str, *reasons: str) -> None:
        """Until there are Events of all these reasons."""

        def has_all() -> bool:
            return set(reasons) <= {event["reason"] for event in self.events(study)}

        self.wait_until(has_all, f"Events {', '.join(reasons)} on {study}")

    def pods(self, study: str) -> list[Document]:
        """Those that were launched on behalf of a study."""
        return self.list("pods", f"hippo.dev/study={study}")

    def hippo(self, *words: str) -> str:
        """The standard output of a command of this study's user."""
        path = f"{self.cluster.bin}:{self.environment['PATH']}"
        done = subprocess.run(
            [HIPPO, *words], env={**self.environment, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # -- waiting -----------------------------------------------------------------------------------

    def wait_until(
        self, holds: Callable[[], object], what: str, *, seconds: float = DEADLINE
    ) -> None:
        """Fails with the state of everything."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"not in {seconds:.0f} s: {what}\n{self.describe()}", pytrace=False)
            time.sleep(0.2)

    def wait_for(self, study: str, *phases: str, seconds: float = DEADLINE) -> Document:
        """The study's status in one of these phases."""
        self.wait_until(
            lambda: self.status(study).get("phase") in phases,
            f"{study} is {' or '.join(phases)}",
            seconds=seconds,
        )
        return self.status(study)

    def wait_until_idle(self, plan: str) -> None:
        """Its last workers have left."""

        def is_idle() -> bool:
            return not self.get("searchplan", plan)["status"]["chains"]

        self.wait_until(is_idle, f"no chain of {plan} is left")

    def wait_for_condition(
        self, study: str, type_: str, status: str, reason: str, *, seconds: float = DEADLINE
    ) -> str:
        """Its message."""

        def holds() -> bool:
            found = self.condition(study, type_) or {}
            return (found.get("status"), found.get("reason")) == (status, reason)

        self.wait_until(holds, f"{study} is {type_}={status}, {reason}", seconds=seconds)
        return str((self.condition(study, type_) or {}).get("message"))

    def describe(self) -> str:
        told = [self.kubectl("get", "studies,searchplans,pods", "-o", "wide", check=False)]
        told.append(self.kubectl("get", "events", check=False)[-3000:])
        if self.read_log is not None:
            told.append(self.read_log()[-5000:])
        elif self.log.exists():
            told.append(self.log.read_text(errors="replace")[-5000:])
        return "\n".join(told)

    # -- studies and their results -----------------------------------------------------------------

    def study(self, name: str, space: Document, **spec: Any) -> Document:
        """A study of the trainer ``chained``, in the light trainer image; ``sleep`` by config."""
        config = spec.pop("config", {})
        trainer = {
            "entrypoint": "chained:Chained",
            "config": config,
            "image": self.cluster.trainer_image,
            "podTemplate": {
                "spec": {
                    "containers": [{"volumeMounts": [{"name": "code", "mountPath": "/workspace"}]}],
                    "volumes": [{"name": "code", "configMap": {"name": CODE}}],
                }
            },
            **spec.pop("trainer", {}),
        }
        return {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": name},
            "spec": {
                "objective": {"metric": "score", "goal": "maximize"},
                "steps": 12,
                "space": {key: {"choices": choices} for key, choices in space.items()},
                "algorithm": {"name": "grid"},
                "parallelism": 3,
                "trainer": trainer,
                **spec,
            },
        }

    def trials(self, study: str) -> list[Document]:
        found = [trial for trial in self.list("trials") if trial["spec"]["study"] == study]
        return sorted(found, key=lambda trial: trial["spec"].get("index", 0))

    def check_results(self, study: str) -> None:
        """The last metric of every trial that has any is what training it alone gives."""
        document = self.get("study", study)
        horizon = document["spec"]["steps"]
        trials = [trial for trial in self.trials(study) if "step" in trial["status"]]
        assert trials
        for trial in trials:
            step = trial["status"]["step"]
            sequence = Sequence.of(trial["spec"]["hyperparameters"], horizon)
            state = ""
            for at in range(step):
                state = continued(state, at, dict(sequence.values(at)))
            assert trial["status"]["metrics"] == {"score": score(state)}, trial["metadata"]["name"]

    def plan_name(self, study: str) -> str:
        return str(self.status(study)["plan"])

    def count_trained(self, plan: str) -> int:
        """Steps that pods have trained and reported, whatever for."""
        blobs = _open(self.url, self.environment)
        records = PlanStore(blobs, f"{self.namespace}/{plan}").load()
        assert not records.problems
        return sum(reports[-1].trained for reports in records.reports.values())

    def run_in_pod(self, studies: Iterable[Document], image: str) -> dict[str, Document]:
        """The oracle: what ``hippo run -o json`` says of each study, by name, in such a pod."""
        name = f"local-{uuid.uuid4().hex[:6]}"
        files = {f"{s['metadata']['name']}.yaml": json.dumps(_without_pods(s)) for s in studies}
        script = (
            "mkdir /tmp/s && cp /workspace/*.py /studies/*.yaml /tmp/s/ && cd /tmp/s &&"
            " for f in *.yaml; do hippo run $f --workers 2 -o json 2>/tmp/log ||"
            " { cat /tmp/log; exit 1; }; echo ---; done"
        )
        self.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": files},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {
                    "restartPolicy": "Never",
                    "securityContext": {
                        "runAsNonRoot": True,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "local",
                            "image": image,
                            "command": ["sh", "-c", script],
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                            },
                            "volumeMounts": [{"name": "studies", "mountPath": "/studies"}],
                        }
                    ],
                    "volumes": [{"name": "studies", "configMap": {"name": name}}],
                },
            },
        )

        def has_ended() -> bool:
            return self.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed")

        self.wait_until(has_ended, "hippo run has ended in its pod")
        told = self.kubectl("logs", name).split("---\n")
        assert len(told) == len(files) + 1, f"hippo run failed in pod {name}: {told}"
        return {
            file.removesuffix(".yaml"): json.loads(text)
            for file, text in zip(sorted(files), told[:-1], strict=True)
        }


def _without_pods(study: Document) -> Document:
    trainer = {
        key: value
        for key, value in study["spec"]["trainer"].items()
        if key not in ("image", "podTemplate", "resources")
    }
    return {**study, "spec": {**study["spec"], "trainer": trainer}}


def _open(url: str, environment: dict[str, str]) -> Any:
    """The store; its settings come from the environment, for as long as it takes to read them."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return open_blobs(url)
    finally:
        os.environ.clear()
        os.environ.update(before)
