"""What happens to the node and its control plane: everything on it is disturbed, so alone."""

from __future__ import annotations

import os
import signal
import time

from tests.chaos.run import Run
from tests.cluster import control_plane, node, programs
from tests.cluster.commands import CommandFailed
from tests.cluster.places import ETCD, NODE, NODE_ADDRESS, RUN
from tests.cluster.processes import Process

AWAY_SECONDS = 15.0


def _kill(process: Process) -> None:
    pid = process.find_pid()
    assert pid is not None, f"{process.name} does not run"
    os.kill(pid, signal.SIGKILL)
    while process.is_running:
        time.sleep(0.05)


def kubelet_killed(run: Run) -> None:
    """Twice, away for a while."""
    run.begin()
    for _ in range(2):
        run.wait_for_steps(20)
        _kill(node.KUBELET)
        run.injected()
        time.sleep(AWAY_SECONDS)
        node.start_kubelet(programs.BIN)


def api_server_killed(run: Run) -> None:
    """Twice, away for a while."""
    run.begin()
    for _ in range(2):
        run.wait_for_steps(20)
        _kill(control_plane.API_SERVER)
        run.injected()
        time.sleep(AWAY_SECONDS)
        control_plane.API_SERVER.start(
            control_plane.build_api_server(programs.BIN, etcd=ETCD, address=NODE_ADDRESS, port=6443)
        )
        run.wait_until(lambda: control_plane.is_ready(programs.BIN), "the API server is ready")


def etcd_killed(run: Run) -> None:
    run.begin()
    run.wait_for_steps(20)
    _kill(control_plane.ETCD_SERVER)
    run.injected()
    time.sleep(AWAY_SECONDS / 3)
    peers = "http://127.0.0.1:12380"
    control_plane.ETCD_SERVER.start(
        control_plane.build_etcd(programs.BIN, RUN / "etcd", clients=ETCD, peers=peers)
    )
    run.wait_until(lambda: control_plane.is_ready(programs.BIN), "the API server is ready")


def not_ready(run: Run) -> None:
    """The node's kubelet stands still until the node counts as lost and its pods are to leave;
    they train on meanwhile, as nobody is there to end them.
    """
    run.begin()
    run.wait_for_steps(20)
    pid = node.KUBELET.find_pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    run.injected()
    try:
        run.wait_until(lambda: not _is_ready(run), "the node is not ready", 180.0)
        time.sleep(30.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    run.wait_until(lambda: _is_ready(run), "the node is ready again", 180.0)


def _is_ready(run: Run) -> bool:
    try:
        conditions = run.site.get("node", NODE)["status"]["conditions"]
    except CommandFailed:
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
