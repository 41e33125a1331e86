"""etcd and an API server without a node, with an audit log of what the operator asks for."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import certificates, programs
from tests.cluster.commands import run
from tests.cluster.control_plane import build_api_server, build_etcd
from tests.minio_server import find_free_port

CRDS = Path(__file__).parents[2] / "crds"
ACCOUNT = "operator"
"""The operator's service account, in the namespace of the point."""
_SECONDS = 60.0


@dataclass(frozen=True)
class ApiServer:
    bin: Path
    folder: Path
    pids: dict[str, int]

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        return self.folder / "admin.kubeconfig"

    @property
    def audit(self) -> Path:
        return self.folder / "audit.log"

    def kubectl(self, *words: str, input: str | None = None, check: bool = True) -> str:
        """Its standard output. Raises CommandFailed with what it said."""
        kubectl = (self.bin / "kubectl", "--kubeconfig", self.kubeconfig)
        return run([*kubectl, *words], input=input, check=check, timeout=_SECONDS)

    def make_operator(self, namespace: str) -> Path:
        """A namespace with a service account that may do anything; its kubeconfig."""
        self.kubectl("create", "namespace", namespace)
        self.kubectl("create", "serviceaccount", ACCOUNT, "-n", namespace)
        role = ("--clusterrole=cluster-admin", f"--serviceaccount={namespace}:{ACCOUNT}")
        self.kubectl("create", "clusterrolebinding", namespace, *role)
        token = self.kubectl("create", "token", ACCOUNT, "-n", namespace, "--duration=24h").strip()
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        file = self.folder / f"{namespace}.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def count_calls(self, namespace: str) -> Counter[tuple[str, str]]:
        """Requests of a namespace's operator so far, by verb and resource."""
        user = f"system:serviceaccount:{namespace}:{ACCOUNT}"
        calls: Counter[tuple[str, str]] = Counter()
        with self.audit.open() as lines:
            for line in lines:
                event = json.loads(line)
                if event["user"]["username"] != user or event["stage"] != "ResponseComplete":
                    continue
                about = event.get("objectRef") or {}
                parts = (about.get("resource"), about.get("subresource"))
                calls[event["verb"], "/".join(filter(None, parts)) or event["requestURI"]] += 1
        return calls


@contextmanager
def start_api_server(folder: Path) -> Iterator[ApiServer]:
    """With the CRDs, on loopback. Raises Impossible where the programs cannot be built."""
    binaries = programs.KUBERNETES.build()
    port = find_free_port()
    etcd, peers = (f"http://127.0.0.1:{find_free_port()}" for _ in range(2))
    certificates.make_certificates(folder, server=f"https://127.0.0.1:{port}")
    policy = folder / "policy.json"
    policy.write_text(json.dumps(_POLICY))
    audit = (f"--audit-policy-file={policy}", f"--audit-log-path={folder / 'audit.log'}")
    commands = [
        build_etcd(binaries, folder / "etcd", clients=etcd, peers=peers),
        [
            *build_api_server(
                binaries, etcd=etcd, address="127.0.0.1", port=port, pki=folder / "pki"
            ),
            "--disable-admission-plugins=ServiceAccount",
            *audit,
        ],
    ]
    with ExitStack() as stack:
        pids = {}
        for command in commands:
            name = Path(command[0]).name
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
            pids[name] = process.pid
            stack.callback(process.wait, _SECONDS)
            stack.callback(process.terminate)
        server = ApiServer(binaries, folder, pids)
        deadline = time.monotonic() + _SECONDS
        while server.kubectl("get", "--raw", "/readyz", check=False).strip() != "ok":
            said = (folder / "kube-apiserver.log").read_text()[-3000:]
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        server.kubectl("apply", "--server-side", "-f", str(CRDS))
        server.kubectl("wait", "--for=condition=Established", "crd", "--all")
        yield server


_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
