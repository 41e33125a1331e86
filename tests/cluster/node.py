"""containerd, the kubelet, kube-proxy, DNS, GPUs in name only, and MinIO on the node's address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.network import CNI
from tests.cluster.places import (
    CONTAINERD,
    DEVICE_PLUGINS,
    GPUS,
    MINIO_PORT,
    NODE,
    NODE_ADDRESS,
    POD_ADDRESSES,
    RUN,
    SOCKET,
)
from tests.cluster.processes import Process, wait_until
from tests.minio_server import SERVER_SETTINGS

CONTAINERS = Process("containerd")
KUBELET = Process("kubelet")
PROXY = Process("kube-proxy")
DNS = Process("coredns")
DEVICES = Process("gpus")
MINIO = Process("minio")
# Images are imported, never pulled: an image that is not there is refused at once.
_NOWHERE = """\
server = "http://127.0.0.1:1"
[host."http://127.0.0.1:1"]
  capabilities = ["pull", "resolve"]
"""

ALL = (CONTAINERS, KUBELET, PROXY, DNS, DEVICES, MINIO)


def start_containerd(pause_image: str) -> None:
    """``pause_image`` has the first process of each pod; it can be imported later."""
    registries = RUN / "registries"
    (registries / "_default").mkdir(parents=True, exist_ok=True)
    (registries / "_default" / "hosts.toml").write_text(_NOWHERE)
    settings = RUN / "containerd.toml"
    settings.write_text(
        f"""\
version = 2
root = "{CONTAINERD}"
state = "{RUN / "containerd"}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  # Without CAP_SYS_RESOURCE, as in some virtual machines, no sandbox would start.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{CNI}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{registries}"
"""
    )
    CONTAINERS.start(["containerd", "--config", settings])
    wait_until("containerd listens", SOCKET.is_socket, timeout=60, processes=[CONTAINERS])


def start_kubelet(programs: Path) -> None:
    """It registers the node with the API server by itself."""
    DEVICE_PLUGINS.mkdir(parents=True, exist_ok=True)
    resolver = RUN / "resolv.conf"
    resolver.write_text(f"nameserver {NODE_ADDRESS}\n")  # nothing but the cluster's own names
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(RUN / "pki" / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "failCgroupV1": False,
        "failSwapOn": False,
        "healthzBindAddress": "127.0.0.1",
        "imageGCHighThresholdPercent": 100,  # it would remove what was imported
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(RUN / "pod-logs"),
        "resolvConf": str(resolver),
        "tlsCertFile": str(RUN / "pki" / "server.crt"),
        "tlsPrivateKeyFile": str(RUN / "pki" / "server.key"),
        "volumePluginDir": str(RUN / "volume-plugins"),
    }
    KUBELET.start(
        [
            programs / "kubelet",
            f"--config={_write('kubelet', settings)}",
            f"--kubeconfig={RUN / 'node.kubeconfig'}",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
            f"--root-dir={RUN / 'kubelet'}",
            f"--cert-dir={RUN / 'kubelet' / 'pki'}",
        ]
    )
    DEVICES.start([programs / "gpus", str(GPUS)])


def start_services(programs: Path) -> None:
    """What makes Services and their names work."""
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "bindAddress": NODE_ADDRESS,
        "clientConnection": {"kubeconfig": str(RUN / "proxy.kubeconfig")},
        "clusterCIDR": POD_ADDRESSES,
        "conntrack": {"maxPerCore": 0},
        "healthzBindAddress": "127.0.0.1:10256",
        "hostnameOverride": NODE,
        "metricsBindAddress": "127.0.0.1:10249",
    }
    PROXY.start([programs / "kube-proxy", f"--config={_write('kube-proxy', settings)}"])
    corefile = RUN / "Corefile"
    corefile.write_text(
        f"""\
cluster.local:53 in-addr.arpa:53 {{
  bind {NODE_ADDRESS}
  errors
  ready {NODE_ADDRESS}:8181
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {RUN / "dns.kubeconfig"}
    ttl 1
  }}
}}
.:53 {{
  bind {NODE_ADDRESS}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""
    )
    DNS.start([programs / "coredns", "-conf", corefile])


def start_minio(programs: Path) -> None:
    folder = RUN / "minio"
    folder.mkdir(parents=True, exist_ok=True)
    address = f"{NODE_ADDRESS}:{MINIO_PORT}"
    command = (programs / "minio", "server", "--quiet", "--address", address)
    MINIO.start([*command, "--certs-dir", RUN / "minio-certificates", folder], SERVER_SETTINGS)


def _write(name: str, settings: Mapping[str, object]) -> Path:
    path = RUN / f"{name}.yaml"
    path.write_text(json.dumps(settings, indent=2))  # JSON is YAML
    return path
