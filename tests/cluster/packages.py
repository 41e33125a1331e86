"""Debian's packages that the cluster needs."""

from __future__ import annotations

import os
import shutil
import sys

from tests.builds import Impossible, say
from tests.cluster.commands import CommandFailed, run

_PACKAGES = {
    "buildah": "buildah",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "ctr": "containerd",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "mount": "mount",
    "nft": "nftables",
    "openssl": "openssl",
    "runc": "runc",
    "skopeo": "skopeo",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}
"""Programs and who brings them."""


def install() -> None:
    """What is missing. Raises Impossible where a cluster cannot be."""
    if sys.platform != "linux":
        raise Impossible("the test cluster needs Linux; or set HIPPO_TEST_KUBECONFIG")
    if os.geteuid() != 0:
        raise Impossible("the test cluster needs root; or set HIPPO_TEST_KUBECONFIG")
    missing = sorted({_PACKAGES[name] for name in _PACKAGES if shutil.which(name) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Impossible(f"the test cluster needs {', '.join(missing)}")
    say(f"installing {' '.join(missing)}: about 1 min, once")
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    try:
        run([*environment, "apt-get", "update"])
        run([*environment, "apt-get", "install", "-y", "--no-install-recommends", *missing])
    except CommandFailed as error:
        raise Impossible(f"the test cluster needs {', '.join(missing)}: {error}") from error
