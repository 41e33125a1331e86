"""etcd, the API server, the controller manager and the scheduler."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.places import ETCD, KUBECONFIG, NODE_ADDRESS, RUN, SERVICE_ADDRESSES
from tests.cluster.processes import Process, wait_until

ETCD_SERVER = Process("etcd")
API_SERVER = Process("kube-apiserver")
CONTROLLERS = Process("kube-controller-manager")
SCHEDULER = Process("kube-scheduler")
ALL = (ETCD_SERVER, API_SERVER, CONTROLLERS, SCHEDULER)

_PKI = RUN / "pki"


def start_api_server(programs: Path) -> None:
    """Without waiting for it."""
    peers = "http://127.0.0.1:12380"
    ETCD_SERVER.start(build_etcd(programs, RUN / "etcd", clients=ETCD, peers=peers))
    API_SERVER.start(build_api_server(programs, etcd=ETCD, address=NODE_ADDRESS, port=6443))


def build_etcd(programs: Path, folder: Path, *, clients: str, peers: str) -> list[str | Path]:
    """Its command line. ``clients`` and ``peers``: where it listens for them."""
    return [
        programs / "etcd",
        f"--data-dir={folder}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        "--unsafe-no-fsync",
        "--logger=zap",
        "--log-level=warn",
    ]


def build_api_server(
    programs: Path, *, etcd: str, address: str, port: int, pki: Path = _PKI
) -> list[str | Path]:
    """Its command line. ``pki``: where its certificates are."""
    return [
        programs / "kube-apiserver",
        f"--etcd-servers={etcd}",
        f"--bind-address={address}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={port}",
        f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
        f"--tls-cert-file={pki / 'server.crt'}",
        f"--tls-private-key-file={pki / 'server.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={pki / 'accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]


def start_controllers(programs: Path) -> None:
    """Once the API server answers."""
    wait_until(
        "the API server is ready",
        lambda: is_ready(programs),
        timeout=90,
        processes=(ETCD_SERVER, API_SERVER),
    )
    CONTROLLERS.start(
        [
            programs / "kube-controller-manager",
            *_identity("controller-manager"),
            f"--service-account-private-key-file={_PKI / 'accounts.key'}",
            f"--root-ca-file={_PKI / 'ca.crt'}",
            "--use-service-account-credentials=true",
        ]
    )
    SCHEDULER.start([programs / "kube-scheduler", *_identity("scheduler")])


def is_ready(programs: Path) -> bool:
    kubectl = (programs / "kubectl", "--kubeconfig", KUBECONFIG, "--request-timeout=5s")
    return run([*kubectl, "get", "--raw", "/readyz"], check=False).strip() == "ok"


def _identity(user: str) -> list[str]:
    file = RUN / f"{user}.kubeconfig"
    return [
        f"--kubeconfig={file}",
        f"--authentication-kubeconfig={file}",
        f"--authorization-kubeconfig={file}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]
