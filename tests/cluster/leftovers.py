"""Ends and removes everything that a run of the cluster made, whatever state it is in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from tests.cluster import control_plane, network, node
from tests.cluster.commands import run
from tests.cluster.places import CONTAINERD, DEVICE_PLUGINS, RUN, SOCKET

_CTR = ("ctr", "--address", str(SOCKET), "--namespace", "k8s.io")
_BUNDLES = RUN / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io"


def remove() -> None:
    """Idempotent."""
    # Nobody starts anything again; then the pods end; then whoever ran them.
    for process in (*control_plane.ALL[::-1], node.KUBELET):
        process.stop(patience=1.0)  # nothing that it could save is kept
    namespaces = _find_network_namespaces()
    _end_containers()
    for process in node.ALL[::-1]:
        process.stop(patience=1.0)  # nothing that it could save is kept
    _end_shims()
    _unmount()
    for path in namespaces:
        run(["umount", path], check=False)
        path.unlink(missing_ok=True)
    network.tear_down()
    if RUN.exists():
        for name in ("hippo-gpus.sock", "kubelet.sock", "kubelet_internal_checkpoint"):
            (DEVICE_PLUGINS / name).unlink(missing_ok=True)
    shutil.rmtree(RUN, ignore_errors=True)
    for path in (SOCKET, SOCKET.with_name(f"{SOCKET.name}.ttrpc")):
        path.unlink(missing_ok=True)


def _end_containers() -> None:
    if not node.CONTAINERS.is_running:
        return
    for task in run([*_CTR, "tasks", "list", "--quiet"], check=False).split():
        run([*_CTR, "tasks", "delete", "--force", task], check=False)
    containers = run([*_CTR, "containers", "list", "--quiet"], check=False).split()
    if containers:
        run([*_CTR, "containers", "delete", *containers], check=False)


def _end_shims() -> None:
    """Each container's parent process; containerd leaves them running when it ends."""
    deadline = time.monotonic() + 10
    while shims := [int(name) for name in os.listdir("/proc") if _is_shim(name)]:
        for pid in shims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise RuntimeError(f"these processes do not end: {shims}")
        time.sleep(0.1)


def _is_shim(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"containerd-shim" in command[0] and str(SOCKET).encode() in command


def _find_network_namespaces() -> set[Path]:
    """Of our pods: their containers name them."""
    found = set()
    for file in _BUNDLES.glob("*/config.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            for namespace in json.loads(file.read_text())["linux"]["namespaces"]:
                if path := namespace.get("path", ""):
                    found.add(Path(path))
    return {path for path in found if path.parent.name == "netns"}


def _unmount() -> None:
    """Everything below our folders, deepest first."""
    below = [
        Path(line.split()[1].encode().decode("unicode_escape"))
        for line in Path("/proc/mounts").read_text().splitlines()
    ]
    ours = {
        path for path in below if any(path.is_relative_to(folder) for folder in (RUN, CONTAINERD))
    }
    for path in sorted(ours, key=lambda path: len(path.parts), reverse=True):
        run(["umount", path], check=False)
        if path.is_mount():
            run(["umount", "--lazy", path], check=False)
