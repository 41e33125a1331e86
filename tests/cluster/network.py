"""Addresses, routes and rules that the cluster needs on this machine, and their removal."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.places import NODE_ADDRESS, POD_ADDRESSES, RUN

CNI = RUN / "cni"
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_BEFORE = RUN / "ip_forward"  # what the setting was
_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))


def set_up() -> None:
    """The node's address, and one network for pods: each has a link of its own to the node."""
    run(["ip", "address", "replace", f"{NODE_ADDRESS}/32", "dev", "lo"])
    run(["ip", "link", "set", "lo", "up"])
    _BEFORE.write_text(_FORWARDING.read_text())
    _FORWARDING.write_text("1")
    CNI.mkdir(parents=True, exist_ok=True)
    network = {
        "cniVersion": "1.0.0",
        "name": "hippo-pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_ADDRESSES}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(RUN / "pod-addresses"),
                },
            }
        ],
    }
    (CNI / "10-pods.conflist").write_text(json.dumps(network))


def tear_down() -> None:
    """Idempotent."""
    run(["ip", "address", "delete", f"{NODE_ADDRESS}/32", "dev", "lo"], check=False)
    for family, table in _TABLES:
        run(["nft", "delete", "table", family, table], check=False)
    if _BEFORE.exists():
        _FORWARDING.write_text(_BEFORE.read_text())
        _BEFORE.unlink()
