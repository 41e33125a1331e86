"""Drives the real ``hippo`` command in a folder of its own, and reads what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hippo.model import Sequence, signature
from hippo.protocol.records import Manifest
from hippo.store import PlanStore, list_plans, open_blobs
from stage_runner.checkpoints.codec import decode
from tests.integration import oracle

HIPPO = str(Path(sys.executable).with_name("hippo"))
TRAINERS = Path(__file__).parent / "trainers"
DEADLINE = 180.0  # seconds: far more than anything here takes, even on a busy machine
LEAVE_SECONDS = 3.0
"""By then every process has left after its driver was killed."""

MARK = "HIPPO_TEST_MARK"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """What it complained of."""
        start = "hippo: "
        return [
            line.removeprefix(start) for line in self.stderr.splitlines() if line.startswith(start)
        ]

    def json(self) -> Any:
        return json.loads(self.stdout)


class Place:
    """A folder with trainers, studies and a store; every process started here carries its mark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.started: list[subprocess.Popen[str]] = []
        folder.mkdir(parents=True, exist_ok=True)
        for file in TRAINERS.glob("*.py"):
            shutil.copy(file, folder)

    # -- studies -----------------------------------------------------------------------------------

    def study(self, name: str, space: dict[str, Any], **spec: Any) -> Path:
        """Write a study file; ``spec`` overrides fields below ``spec``, in camelCase."""
        document = {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": name},
            "spec": {
                "objective": {"metric": "score", "goal": "maximize"},
                "steps": 12,
                "space": {key: {"choices": choices} for key, choices in space.items()},
                "algorithm": {"name": "grid"},
                "trainer": {"entrypoint": "walk:Walk"},
                **spec,
            },
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(document))
        return path

    def edit(self, name: str, **spec: Any) -> Path:
        """Change fields below ``spec`` of a study file; None removes one."""
        path = self.folder / f"{name}.yaml"
        document = json.loads(path.read_text())
        document["spec"] = {
            key: value for key, value in {**document["spec"], **spec}.items() if value is not None
        }
        path.write_text(json.dumps(document))
        return path

    # -- commands ----------------------------------------------------------------------------------

    def start(
        self,
        *arguments: str | Path,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        under: tuple[str, ...] = (),
    ) -> subprocess.Popen[str]:
        """Start ``hippo`` at the head of a process group of its own; ``under``: as nohup's."""
        environment = {**os.environ, MARK: self.mark}
        process = subprocess.Popen(
            [*under, HIPPO, *map(str, arguments)],
            cwd=self.folder,
            env=environment,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def call(self, *arguments: str | Path, status: int | None = 0) -> Done:
        """Run ``hippo`` to its end; it must leave with ``status``, without a traceback."""
        return self.finish(self.start(*arguments), status=status)

    def finish(self, process: subprocess.Popen[str], *, status: int | None = 0) -> Done:
        stdout, stderr = process.communicate(timeout=DEADLINE)
        done = Done(process.returncode, stdout or "", stderr or "")
        assert "Traceback" not in done.stderr, done.stderr
        assert status is None or done.status == status, done
        return done

    def run(self, *arguments: str | Path, workers: int = 2, status: int | None = 0) -> Any:
        """The result of ``hippo run -o json``."""
        return self.call(
            "run", *arguments, "--workers", str(workers), "-o", "json", status=status
        ).json()

    # -- processes ---------------------------------------------------------------------------------

    def processes(self) -> list[int]:
        """Live processes that were started here, however indirectly."""
        needle = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if needle in (folder / "environ").read_bytes() and not _is_zombie(folder):
                    found.append(int(folder.name))
        return sorted(found)

    def server(self, process: subprocess.Popen[str]) -> int:
        """The fork server of a running ``hippo run``."""
        (server,) = _children(process.pid) or [0]
        assert server, "hippo has no server yet"
        return server

    def workers(self, process: subprocess.Popen[str]) -> list[int]:
        return [pid for server in _children(process.pid) for pid in _children(server)]

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9, then see that nobody stays behind."""
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=DEADLINE)
        wait_until(lambda: not self.processes(), "all processes have left", LEAVE_SECONDS)

    def clean_up(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- what was trained --------------------------------------------------------------------------

    def trained(self) -> list[tuple[str, str]]:
        """(history before, history after) of every step that was trained, in order."""
        path = self.folder / "counts.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(before, after) for before, after in map(str.split, lines)]

    def evaluated(self) -> list[str]:
        path = self.folder / "evaluations.txt"
        return path.read_text().splitlines() if path.exists() else []

    def check_nothing_twice(self) -> int:
        """Number of steps trained, each of them once; as many evaluations as were asked for."""
        again = [step for step, times in Counter(self.trained()).items() if times > 1]
        assert not again, again
        assert len(set(self.evaluated())) == len(self.evaluated())
        return len(self.trained())

    # -- the store ---------------------------------------------------------------------------------

    @property
    def store_folder(self) -> Path:
        return self.folder / ".hippo"

    def plans(self, store: Path | str | None = None) -> list[PlanStore]:
        blobs = open_blobs(str(store if store is not None else self.store_folder))
        return [PlanStore(blobs, path) for path in list_plans(blobs)]

    def plan(self, store: Path | str | None = None) -> PlanStore:
        (plan,) = self.plans(store)
        return plan

    def manifests(self, store: Path | str | None = None) -> dict[str, Manifest]:
        records = self.plan(store).load()
        assert not records.problems
        return records.manifests

    def load_state(
        self, sequence: Sequence, step: int, *, apart: str = "", store: Path | str | None = None
    ) -> Any:
        """What the checkpoint of a sequence at a step holds; ``apart`` names a trial of a plan
        that was trained trial by trial.
        """
        plan = self.plan(store)
        document = plan.load().signature
        assert document is not None
        name = signature(document) + (f"/{apart}" if apart else "")
        manifest = plan.read_manifest(sequence.key(step, name))
        assert manifest.step == step
        return decode(plan.read_checkpoint(manifest))

    def ask_oracle(
        self, asked: Iterable[tuple[Any, int, list[int]]], *, entrypoint: str = "walk:Walk"
    ) -> list[dict[int, dict[str, Any]]]:
        """Train sequences alone, in another process and another folder."""
        apart = Place(self.folder.parent / "oracle")  # sources beside the trainer would count
        request, answer = apart.folder / "request.json", apart.folder / "answer.json"
        request.write_text(json.dumps(list(asked)))
        subprocess.run(
            [sys.executable, oracle.__file__, apart.folder, entrypoint, request, answer],
            check=True,
            timeout=DEADLINE,
        )
        return [
            {int(step): known for step, known in item.items()}
            for item in json.loads(answer.read_text())
        ]


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def as_hex(metrics: dict[str, float]) -> dict[str, str]:
    return {name: value.hex() for name, value in metrics.items()}


def _children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[1] == str(pid) and fields[0] != "Z":
                found.append(int(folder.name))
    return sorted(found)


def _is_zombie(folder: Path) -> bool:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
