"""The chart, installed in the test cluster as a platform team would do it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster import Cluster
from tests.cluster.commands import run
from tests.minio_server import ADMIN, PASSWORD

CHART = Path(__file__).parents[2] / "charts" / "hippo"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
KEYS = "hippo-keys"
"""Secret with the operator's keys, as docs/install.md makes it."""

Document = dict[str, Any]


@dataclass
class Release:
    """A release of the chart, in a namespace of its own under the strictest Pod Security standard.

    ``logs`` holds what operators said that are gone: see :meth:`keep_log`.
    """

    cluster: Cluster
    name: str
    values: Document = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    chart: Path = CHART

    @property
    def namespace(self) -> str:
        return f"{self.name}-system"

    @property
    def operator(self) -> str:
        """Name of its Deployment, Service, service account and roles."""
        return f"{self.name}-operator"

    @property
    def account(self) -> str:
        return f"{self.namespace}:{self.operator}"

    def set_up(self) -> None:
        """The namespace, and the Secret with the operator's keys."""
        self.cluster.kubectl("create", "namespace", self.namespace)
        self.cluster.kubectl("label", "namespace", self.namespace, RESTRICTED)
        keys = {"AWS_ACCESS_KEY_ID": ADMIN, "AWS_SECRET_ACCESS_KEY": PASSWORD}
        literals = [f"--from-literal={name}={value}" for name, value in keys.items()]
        self.kubectl("create", "secret", "generic", KEYS, *literals)

    def tear_down(self) -> None:
        self.helm("uninstall", self.name, "--ignore-not-found")
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    # -- Helm --------------------------------------------------------------------------------------

    def install(self, values: Document, *options: str) -> None:
        """Without options: returns once the operator is ready."""
        words = ("--timeout=120s", *(options or ("--wait",)), "--values=-")
        self.helm("install", self.name, self.chart, *words, input=json.dumps(values))

    def upgrade(self, values: Document, *options: str) -> None:
        """The same; changes these values and keeps all others."""
        words = ("--timeout=120s", *(options or ("--wait",)), "--values=-")
        kept = "--reset-then-reuse-values"
        self.helm("upgrade", self.name, self.chart, kept, *words, input=json.dumps(values))

    def uninstall(self) -> None:
        """Returns once its operator's pods, which write until they end, are gone."""
        self.keep_log()
        self.helm("uninstall", self.name, "--wait", "--timeout=120s")
        chosen = "app.kubernetes.io/component=operator"
        self.kubectl("wait", "--for=delete", "pods", "-l", chosen, "--timeout=120s")

    def helm(self, *words: str | Path, input: str | None = None) -> str:
        """Its standard output. Raises CommandFailed with what it said."""
        helm = (self.cluster.bin / "helm", "--kubeconfig", self.cluster.kubeconfig)
        return run([*helm, "--namespace", self.namespace, *words], input=input, timeout=180)

    # -- what it has installed ---------------------------------------------------------------------

    def kubectl(self, *words: str, input: str | None = None, check: bool = True) -> str:
        """In the release's namespace."""
        return self.cluster.kubectl("-n", self.namespace, *words, input=input, check=check)

    def find_all(self, kind: str, labels: str = "") -> list[Document]:
        return self.cluster.reader.list(self.namespace, kind, labels)

    def find_pods(self) -> list[Document]:
        """The operator's that are not about to go."""
        found = self.find_all("pods", "app.kubernetes.io/component=operator")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def find_pod_name(self) -> str:
        """Empty while there is none."""
        return next((str(pod["metadata"]["name"]) for pod in self.find_pods()), "")

    def get_data(self, secret: str) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.kubectl("get", "secret", secret, "-o", "json"))[
            "data"
        ]
        return found

    def wait_until_ready(self) -> None:
        self.kubectl("rollout", "status", f"deployment/{self.operator}", "--timeout=60s")

    def is_ready(self) -> bool:
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for pod in self.find_pods()
            for condition in pod["status"].get("conditions", ())
        )

    def get_page(self, path: str) -> str:
        """A page of the operator, through its Service."""
        service = f"services/{self.operator}:metrics/proxy"
        return self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.namespace}/{service}/{path}")

    def keep_log(self) -> None:
        """Before the operator's pod goes."""
        self.logs.append(self._read_log())

    def read_log(self) -> str:
        """All that operators of this release have said."""
        return "".join([*self.logs, self._read_log()])

    def _read_log(self) -> str:
        return self.kubectl("logs", f"deployment/{self.operator}", "--tail=-1", check=False)


def image_values(name: str) -> Document:
    """An image as the chart's values name it."""
    repository, _, tag = name.rpartition(":")
    return {"repository": repository, "tag": tag}


def review(
    cluster: Cluster, user: str, questions: Iterable[tuple[str, str, str | None]]
) -> dict[tuple[str, str, str | None], bool]:
    """Whether a service account ("namespace:name") may do it, as ``kubectl auth can-i`` asks.

    A question is a verb, a resource ("pods", "pods/log", "deployments.apps"), and a namespace;
    None: all of them.
    """
    asked = list(questions)
    items = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{user}",
                "groups": [
                    "system:authenticated",
                    "system:serviceaccounts",
                    f"system:serviceaccounts:{user.partition(':')[0]}",
                ],
                "resourceAttributes": {
                    "verb": verb,
                    **_split(resource),
                    **({"namespace": namespace} if namespace else {}),
                },
            },
        }
        for verb, resource, namespace in asked
    ]
    documents = {"apiVersion": "v1", "kind": "List", "items": items}
    told = cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(documents))
    answers = _read_all(told)
    assert len(answers) == len(asked)
    return {
        question: answer["status"]["allowed"]
        for question, answer in zip(asked, answers, strict=True)
    }


def _split(resource: str) -> dict[str, str]:
    whole, _, sub = resource.partition("/")
    plural, _, group = whole.partition(".")
    return {"resource": plural, "group": group, "subresource": sub}


def _read_all(text: str) -> list[Document]:
    """One JSON document after another; lists are opened."""
    found: list[Document] = []
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        found += document["items"] if document["kind"] == "List" else [document]
    return found
