"""Reads objects from the API server. Tests that wait look several times a second; a kubectl a look
takes a hundred times the processor time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import urllib3.exceptions
from kubernetes import config
from kubernetes.client import ApiClient, ApiException

from tests.cluster.commands import CommandFailed

Document = dict[str, Any]

_TIMEOUT_SECONDS = 60.0
_PLACES = {
    "deployments": "/apis/apps/v1",
    "events": "/api/v1",
    "nodes": "/api/v1",
    "pods": "/api/v1",
    "secrets": "/api/v1",
    "searchplans": "/apis/hippo.dev/v1alpha1",
    "studies": "/apis/hippo.dev/v1alpha1",
    "trials": "/apis/hippo.dev/v1alpha1",
}
_PLURALS = {"study": "studies"}


class Reader:
    """One user's view of a cluster. Thread-safe."""

    def __init__(self, kubeconfig: Path) -> None:
        self._api: ApiClient = config.new_client_from_config(str(kubeconfig))

    def get(self, namespace: str, kind: str, name: str) -> Document:
        """``kind``: singular or plural. Raises CommandFailed."""
        return self._read(f"{_find_path(namespace, kind)}/{name}")

    def list(self, namespace: str, kind: str, labels: str = "") -> list[Document]:
        """Each object with its kind, as kubectl prints it. Raises CommandFailed."""
        found = self._read(_find_path(namespace, kind), labelSelector=labels)
        about = {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"].removesuffix("List"),
        }
        return [{**about, **item} for item in found["items"]]

    def _read(self, path: str, **query: str) -> Document:
        request = self._api.param_serialize(
            "GET",
            path,
            query_params=[(name, value) for name, value in query.items() if value],
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        try:
            response = self._api.call_api(*request, _request_timeout=_TIMEOUT_SECONDS)
            data = response.read()
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise CommandFailed(f"GET {path}: {error}") from error
        if response.status != 200:
            raise CommandFailed(f"GET {path}: {response.status}\n{data!r}")
        found: Document = json.loads(data)
        return found


def _find_path(namespace: str, kind: str) -> str:
    plural = _PLURALS.get(kind, kind if kind in _PLACES else f"{kind}s")
    within = "" if plural == "nodes" else f"/namespaces/{namespace}"
    return f"{_PLACES[plural]}{within}/{plural}"
