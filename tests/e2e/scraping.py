"""A real Prometheus, told what to scrape by a ServiceMonitor as the Prometheus operator would."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import Cluster
from tests.minio_server import find_free_port

Document = dict[str, Any]

_SECONDS = 30.0


@dataclass(frozen=True)
class Prometheus:
    """Made by :func:`start`."""

    address: str

    def query(self, expression: str) -> list[Document]:
        """Series and their values as of now. Raises HTTPError for what cannot be evaluated."""
        found: list[Document] = self._get("query", query=expression)["result"]
        return found

    def wait_for(self, expression: str) -> list[Document]:
        """The same, once there is something. Fails after a while."""
        deadline = time.monotonic() + _SECONDS
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline, f"no {expression}; targets: {self.find_targets()}"
            time.sleep(0.2)
        return found

    def list_rules(self) -> list[Document]:
        """Alerts with their state, and whether they could be evaluated."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def find_targets(self) -> list[Document]:
        found: list[Document] = self._get("targets", state="active")["activeTargets"]
        return found

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    def _get(self, path: str, **query: str) -> Any:
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return json.load(answer)["data"]


@contextmanager
def start(
    cluster: Cluster, folder: Path, monitor: Document, rules: Document
) -> Iterator[Prometheus]:
    """A process on loopback. ``monitor``: a ServiceMonitor; ``rules``: a PrometheusRule."""
    (folder / "rules.json").write_text(json.dumps(rules["spec"]))
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.json")],
        "scrape_configs": [build_scrape_config(monitor, cluster.kubeconfig)],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(settings))  # JSON is YAML
    address = f"127.0.0.1:{find_free_port()}"
    command = [
        str(cluster.bin / "prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    found = Prometheus(f"http://{address}")
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _SECONDS
        while not found.is_ready():
            said = (folder / "prometheus.log").read_text()
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        yield found
    finally:
        process.terminate()
        process.wait(_SECONDS)


def build_scrape_config(monitor: Document, kubeconfig: Path) -> Document:
    """What the Prometheus operator makes of a ServiceMonitor of one endpoint."""
    (endpoint,) = monitor["spec"]["endpoints"]
    meta = "__meta_kubernetes"
    kept = {
        f"{meta}_service_label_{re.sub('[^a-zA-Z0-9_]', '_', name)}": value
        for name, value in monitor["spec"]["selector"]["matchLabels"].items()
    }
    kept[f"{meta}_endpointslice_port_name"] = endpoint["port"]
    targets = {
        "namespace": f"{meta}_namespace",
        "service": f"{meta}_service_name",
        "job": f"{meta}_service_name",
        "pod": f"{meta}_pod_name",
    }
    return {
        "job_name": f"serviceMonitor/{monitor['metadata']['name']}",
        "honor_labels": endpoint.get("honorLabels", False),
        "metrics_path": endpoint.get("path", "/metrics"),
        "kubernetes_sd_configs": [
            {
                "role": "endpointslice",
                "kubeconfig_file": str(kubeconfig),
                "namespaces": {"names": [monitor["metadata"]["namespace"]]},
            }
        ],
        "relabel_configs": [
            *(
                {"action": "keep", "source_labels": [label], "regex": re.escape(value)}
                for label, value in kept.items()
            ),
            *(
                {"source_labels": [source], "target_label": target}
                for target, source in targets.items()
            ),
        ],
    }
