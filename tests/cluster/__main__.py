"""The command: see the package."""

from __future__ import annotations

import argparse
import sys

from tests.builds import Impossible
from tests.cluster import cluster, control_plane, node
from tests.cluster.commands import CommandFailed
from tests.cluster.places import KUBECONFIG, LOGS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    parser.add_argument("action", choices=list(_ACTIONS))
    action = parser.parse_args().action
    try:
        return _ACTIONS[action]()
    except (Impossible, CommandFailed, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


def _up() -> int:
    ready = cluster.up()
    print(f"GPUs in name, images, MinIO at {ready.minio_url}; kubectl and helm are in {ready.bin}:")
    print(f"  export KUBECONFIG={ready.kubeconfig} PATH={ready.bin}:$PATH")
    return 0


def _build() -> int:
    cluster.build()
    return 0


def _down() -> int:
    cluster.down()
    print("the cluster is down")
    return 0


def _status() -> int:
    for process in (*control_plane.ALL, *node.ALL):
        pid = process.find_pid()
        print(f"{process.name:<24} {'ended' if pid is None else f'pid {pid}'}")
    is_up = cluster.is_up()
    print(f"the cluster is up: KUBECONFIG={KUBECONFIG}" if is_up else "the cluster is down")
    return 0 if is_up else 1


def _images() -> int:
    for image in cluster.bring_images().all:
        print(image)
    return 0


def _logs() -> int:
    for process in (*control_plane.ALL, *node.ALL):
        print(f"== {process.log}\n{process.read_log()}")
    print(f"logs are in {LOGS}")
    return 0


_ACTIONS = {
    "build": _build,
    "up": _up,
    "down": _down,
    "status": _status,
    "images": _images,
    "logs": _logs,
}

if __name__ == "__main__":
    sys.exit(main())
