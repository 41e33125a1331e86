"""Where the cluster keeps things, and its addresses.

The addresses are those for benchmarks (RFC 2544): on this machine only, never routed.
"""

from __future__ import annotations

from pathlib import Path

from tests.builds import CACHE

RUN = CACHE / "cluster" / "run"
"""What one run of the cluster writes; removed with it."""
LOGS = CACHE / "cluster" / "logs"
CONTAINERD = CACHE / "cluster" / "containerd"
"""Images in the node; they outlive a run."""
SOCKET = CACHE / "cluster" / "containerd.sock"
KUBECONFIG = RUN / "admin.kubeconfig"
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
"""The kubelet takes no other."""

NODE = "node-0"
NODE_ADDRESS = "198.18.2.1"
POD_ADDRESSES = "198.18.1.0/24"
SERVICE_ADDRESSES = "198.18.0.0/24"
API_SERVER = f"https://{NODE_ADDRESS}:6443"
API_SERVER_AS_SERVICE = "198.18.0.1"
ETCD = "http://127.0.0.1:12379"
MINIO_PORT = 9000
GPUS = 4
