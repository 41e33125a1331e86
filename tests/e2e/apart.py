"""An API server apart, without a node: for an operator that watches all namespaces."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.cluster import Cluster
from tests.cluster.control_plane import build_api_server, build_etcd
from tests.e2e.site import HIPPO, Site
from tests.minio_server import find_free_port

_SECONDS = 60.0


@contextmanager
def start_api_server(cluster: Cluster, folder: Path) -> Iterator[Cluster]:
    """The cluster's programs, certificates and users. Pods stay pending; nothing is collected, no
    service account is made, and none is asked for.
    """
    etcd, port = f"http://127.0.0.1:{find_free_port()}", find_free_port()
    peers = f"http://127.0.0.1:{find_free_port()}"
    kubeconfig = json.loads(cluster.kubeconfig.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file = folder / "kubeconfig"
    file.write_text(json.dumps(kubeconfig))
    apart = replace(cluster, kubeconfig=file)
    more = ["--disable-admission-plugins=ServiceAccount"]
    commands = [
        build_etcd(cluster.bin, folder / "etcd", clients=etcd, peers=peers),
        [*build_api_server(cluster.bin, etcd=etcd, address="127.0.0.1", port=port), *more],
    ]
    with ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("w"))
            process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
            stack.callback(process.wait, _SECONDS)
            stack.callback(process.terminate)
        deadline = time.monotonic() + _SECONDS
        while apart.kubectl("get", "--raw", "/readyz", check=False).strip() != "ok":
            said = (folder / "kube-apiserver.log").read_text()[-3000:]
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        yield apart


@contextmanager
def run_operator(site: Site, token: str) -> Iterator[None]:
    """For all namespaces, by the rights that the token gives."""
    kubeconfig = json.loads(site.cluster.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": token}
    file = site.cluster.kubeconfig.with_name("operator.kubeconfig")
    file.write_text(json.dumps(kubeconfig))
    command = [HIPPO, "operator", "--store", site.url, "--metrics-port", str(site.port)]
    environment = {**site.environment, "KUBECONFIG": str(file)}
    with site.log.open("ab") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_SECONDS)
