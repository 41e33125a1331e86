"""The cluster's certificates, and a kubeconfig for each of its users."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.commands import run
from tests.cluster.places import API_SERVER, API_SERVER_AS_SERVICE, NODE, NODE_ADDRESS, RUN

_DAYS = "365"
_NAMES = (
    f"subjectAltName=IP:127.0.0.1,IP:{NODE_ADDRESS},IP:{API_SERVER_AS_SERVICE},"
    f"DNS:localhost,DNS:{NODE},DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
)
_USERS = {
    "admin": "/O=system:masters/CN=admin",
    "node": f"/O=system:nodes/CN=system:node:{NODE}",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "dns": "/O=system:masters/CN=dns",
}


def make_certificates(run_folder: Path = RUN, *, server: str = API_SERVER) -> None:
    """In its ``pki``; the kubeconfigs, which lead to the server, in the folder itself."""
    folder = run_folder / "pki"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    run(
        [
            *("openssl", "req", "-x509", *_NEW_KEY, "-days", _DAYS, "-subj", "/CN=hippo-tests"),
            *("-keyout", folder / "ca.key", "-out", folder / "ca.crt"),
        ]
    )
    _sign(folder, "server", "/CN=kube-apiserver")  # also the kubelet's
    _sign(folder, "kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client")
    for user, subject in _USERS.items():
        _sign(folder, user, subject)
        path = run_folder / f"{user}.kubeconfig"
        path.write_text(_kubeconfig(folder, user, server))
        path.chmod(0o600)
    run(["openssl", "genrsa", "-out", folder / "accounts.key", "2048"])
    run(
        [
            *("openssl", "rsa", "-in", folder / "accounts.key", "-pubout"),
            *("-out", folder / "accounts.pub"),
        ]
    )


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _sign(folder: Path, name: str, subject: str) -> None:
    request, key = folder / f"{name}.csr", folder / f"{name}.key"
    run(["openssl", "req", *_NEW_KEY, "-subj", subject, "-keyout", key, "-out", request])
    extensions = folder / "extensions"
    extensions.write_text(_NAMES)
    run(
        [
            *("openssl", "x509", "-req", "-in", request, "-days", _DAYS, "-extfile", extensions),
            *("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial"),
            *("-out", folder / f"{name}.crt"),
        ]
    )


def _kubeconfig(folder: Path, user: str, server: str) -> str:
    name = "hippo-tests"
    cluster = {"server": server, "certificate-authority": f"{folder}/ca.crt"}
    secrets = {
        "client-certificate": f"{folder}/{user}.crt",
        "client-key": f"{folder}/{user}.key",
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": secrets}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    return json.dumps(config, indent=2)  # JSON is YAML
