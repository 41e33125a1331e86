"""The logs of a study's pods in a cluster, which ``hippo logs`` fetches with ``kubectl``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable
from typing import IO, Any

from hippo.cli.render.output import LogOutput, complain, log_heading
from hippo.kube import names
from hippo.kube.pods.state import PodPhase, observe
from hippo.store import StoreError

_READ = 1 << 16


def show_pods(
    study: str,
    namespace: str | None,
    chains: set[str] | None,
    *,
    follow: bool,
    tail: int | None,
    why: str,
) -> None:
    not_here = why or f"study {study} has no logs on this machine"
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise StoreError(f"{not_here}; and kubectl, for those of a cluster, is not installed")
    scope = ["-n", namespace] if namespace else []
    selector = f"{names.LABEL_ASKER_PREFIX}{study}"
    if chains is not None:
        selector += f",{names.LABEL_CHAIN} in ({','.join(sorted(chains))})"
    try:
        pods = [] if chains == set() else _list_pods(kubectl, [*scope, "-l", selector])
    except StoreError as error:
        raise StoreError(f"{not_here}; and {error}") from None
    if not pods:
        where = f"namespace {namespace}" if namespace else "kubectl's namespace"
        raise StoreError(
            f"{not_here}; and it has no pods in {where}: those that have ended are removed"
        )
    output = LogOutput()
    options = ["-c", names.TRAINER_CONTAINER, *(["--tail", str(tail)] if tail is not None else [])]
    if follow:
        _show_waiting(pods)
        running = [pod for pod in pods if observe(pod).phase is not PodPhase.PENDING]
        if not running:
            raise StoreError("none of its pods has begun yet")
        _run_kubectl(
            [kubectl, "logs", "-f", "--prefix", *scope, "-l", selector, *options]
            + [f"--max-log-requests={len(pods)}"]
            + ([] if tail is not None else ["--tail=-1"]),  # with a selector, it is 10 otherwise
            output,
        )
        return
    for pod in pods:
        name, state = pod["metadata"]["name"], observe(pod)
        told = f"{name}: {state.phase}{f': {state.message}' if state.message else ''}"
        output.write(log_heading(told))
        if state.phase is not PodPhase.PENDING:
            _run_kubectl([kubectl, "logs", *scope, name, *options], output)


def _list_pods(kubectl: str, options: list[str]) -> list[dict[str, Any]]:
    """Return the pods, the newest first. Raises StoreError with kubectl's error message."""
    command = [kubectl, "get", "pods", *options, "-o", "json"]
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise StoreError(f"kubectl: {lines[-1] if lines else f'exit status {done.returncode}'}")
    pods: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)


def _show_waiting(pods: Iterable[dict[str, Any]]) -> None:
    for pod in pods:
        state = observe(pod)
        if state.phase is PodPhase.PENDING and state.message:
            complain(f"{pod['metadata']['name']}: {state.message}")


def _run_kubectl(command: list[str], output: LogOutput) -> None:
    """Write kubectl's output, escaped on a terminal, and its errors under its name."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as kubectl:
        assert kubectl.stdout is not None
        assert kubectl.stderr is not None
        complaints = threading.Thread(target=_pass_on, args=(kubectl.stderr,), daemon=True)
        complaints.start()
        while data := os.read(kubectl.stdout.fileno(), _READ):
            output.write(data)
        complaints.join()


def _pass_on(complaints: IO[bytes]) -> None:
    for line in complaints:
        complain(f"kubectl: {line.decode('utf-8', 'backslashreplace').rstrip()}")
