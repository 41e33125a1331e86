"""The API server, as far as the operator needs it: plain documents over the official client."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from hippo.kube.resources import Document, Documents, Resource, StatusModel, dump
from hippo.model.foreign import quote
from hippo.store.given import explain_file, read_if_there

REQUEST_SECONDS = 30.0
AGAIN_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""Before a request is made again that failed for reasons of the server's, or had no answer. One
that was done all the same does no harm: what was created exists, what was written conflicts."""
MOST_SECONDS = 10.0
"""Longest wait that is granted to a server that asks for one."""
_PASSING = {0, 429, 500, 502, 503, 504}
_TOO_LARGE = ("etcdserver: request is too large", "trying to send message larger than max")
"""Phrases of a server, with status 500, for an object that its database does not take."""
_IS_INVALID = " is invalid: "
"""Phrase of a server for an invalid object, as opposed to a patch that does not apply."""
PAGE = 500
FIELD_MANAGER = "hippo"


class ApiError(Exception):
    """The API server refused or failed. One line; ``status`` is the HTTP status, 0: no answer.
    ``wait``: the seconds that the server asks to wait.
    """

    def __init__(self, status: int, message: str, *, wait: float = 0.0) -> None:
        super().__init__(quote(message))
        self.status = status
        self.wait = wait


class NotFound(ApiError):
    """There is no such object."""


class AlreadyExists(ApiError):
    """There is an object of that name."""


class Conflict(ApiError):
    """Somebody else has written the object since it was read."""


class Refused(ApiError):
    """The object is not as it has to be, or not allowed: trying again cannot help."""


@dataclass(frozen=True, slots=True)
class StatusPrecondition:
    """The status that a writer believes an object to have: whether there is one, and its phase."""

    exists: bool
    phase: Any  # whatever JSON holds; None: it names none

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> StatusPrecondition:
        """As an object of the API server has it."""
        status = document.get("status")
        return cls(status is not None, (status or {}).get("phase"))

    def build_test(self) -> Document:
        """As an operation of a JSON patch, to which a missing field equals null."""
        if not self.exists:
            return {"op": "test", "path": "/status", "value": None}
        return {"op": "test", "path": "/status/phase", "value": self.phase}


class Api:
    """One connection pool. Every failure is an ApiError."""

    def __init__(self, connection: client.ApiClient) -> None:
        self._client = connection

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Document:
        return await self._call("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = ""
    ) -> Documents:
        """All objects of a kind, read from the server itself, in pages."""
        found: Documents = []
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            found += page.get("items", [])
            following = page.get("metadata", {}).get("continue")
            if not following:
                return found
            query["continue"] = following

    async def create(
        self, resource: Resource, namespace: str, body: Document, *, dry_run: bool = False
    ) -> Document:
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return await self._call("POST", resource.path(namespace), body=body, query=query)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Document
    ) -> Document:
        """A merge patch."""
        path, query = resource.path(namespace, name), {"fieldManager": FIELD_MANAGER}
        return await self._call("PATCH", path, body=body, query=query, kind="merge-patch+json")

    async def set_status(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        status: StatusModel,
        *,
        precondition: StatusPrecondition | None = None,
    ) -> Document:
        """Without a resourceVersion: for views, of which there is one writer. Raises Conflict if
        the object's status does not meet ``precondition``.
        """
        path, query = resource.path(namespace, name, "status"), {"fieldManager": FIELD_MANAGER}
        body: Documents = [{"op": "add", "path": "/status", "value": dump(status)}]
        if precondition is not None:
            body.insert(0, precondition.build_test())
        try:
            return await self._call("PATCH", path, body=body, query=query, kind="json-patch+json")
        except Refused as error:
            is_test = error.status == HTTPStatus.UNPROCESSABLE_ENTITY and len(body) > 1
            if not is_test or _IS_INVALID in str(error):
                raise
            raise Conflict(
                error.status, f"the status of {name} was written by somebody else: {error}"
            ) from None

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, changes: Document, *, version: str
    ) -> Document:
        """A merge patch of the status alone: what it does not name stays, known here or not. Raises
        Conflict unless ``version`` is the object's present resourceVersion.
        """
        path, query = resource.path(namespace, name, "status"), {"fieldManager": FIELD_MANAGER}
        body = {"metadata": {"resourceVersion": version}, "status": changes}
        return await self._call("PATCH", path, body=body, query=query, kind="merge-patch+json")

    async def replace_status(
        self, resource: Resource, namespace: str, name: str, body: Document
    ) -> Document:
        """Raises Conflict unless ``body`` carries the object's present resourceVersion."""
        return await self._call("PUT", resource.path(namespace, name, "status"), body=body)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """In the background. Nothing happens if it is gone, or another one of that name."""
        body: Document = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", resource.path(namespace, name), body=body)
        except (NotFound, Conflict):
            return

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Document | Documents | None = None,
        kind: str = "json",
    ) -> Document:
        request: Any = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": f"application/{kind}"},
            body=body,
            auth_settings=["BearerToken"],
        )
        for pause in AGAIN_SECONDS:
            try:
                return await self._ask(request)
            except ApiError as error:
                if error.status not in _PASSING or isinstance(error, Refused):
                    raise
                await asyncio.sleep(max(pause, min(error.wait, MOST_SECONDS)))
        return await self._ask(request)

    async def _ask(self, request: Any) -> Document:
        verb, url, headers, content = request[:4]
        try:
            answer = await self._client.call_api(
                verb, url, headers, content, _request_timeout=REQUEST_SECONDS
            )
            data: bytes = await answer.read()  # type: ignore[no-untyped-call]
        except ApiException as error:
            told = _read_wait(error.headers)
            raise _translate(error.status or 0, error.body, error.reason, told) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(0, f"the API server does not answer: {error!r}") from None
        if not 200 <= answer.status <= 299:
            told = _read_wait(answer.headers)
            raise _translate(answer.status, data, answer.reason, told)
        return _decode(answer.status, data)


_IN_POD = "KUBERNETES_SERVICE_HOST"
_KUBECONFIG = "~/.kube/config"


@asynccontextmanager
async def connect() -> AsyncIterator[Api]:
    """By the pod's service account, or else by KUBECONFIG."""
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        files = _find_kubeconfigs()
        if not files:
            reason = "there is no cluster to work in: run it in a pod, or set KUBECONFIG to a file"
            if os.environ.get(_IN_POD):
                reason = f"the pod's service account cannot be used: {error}: give it a token"
            raise ApiError(0, reason) from None
        await _load_kubeconfig(files, configuration)
    # Authorities of many clusters leave out what RFC 5280 asks for; from Python 3.13 on they would
    # be refused, which all other clients accept.
    configuration.disable_strict_ssl_verification = True
    async with client.ApiClient(configuration) as connection:
        yield Api(connection)


def _decode(status: int, data: bytes) -> Document:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiError(status, f"the API server answers with what is no object: {data[:80]!r}")
    return found


def _find_kubeconfigs() -> list[str]:
    """Paths of those that are named, and of the usual one if it is there. Raises ApiError for one
    that cannot be read: another cluster's is not to be taken in its place.
    """
    named = [name.strip() for name in os.environ.get("KUBECONFIG", "").split(os.pathsep)]
    found = []
    for name in [name for name in named if name] or [_KUBECONFIG]:
        path = os.path.expanduser(name)
        try:
            is_there = read_if_there(path) is not None
        except OSError as error:
            raise ApiError(0, f"the kubeconfig {path} {explain_file(error)}") from None
        if is_there:
            found.append(path)
        elif name != _KUBECONFIG:
            raise ApiError(0, f"KUBECONFIG: there is no file {path}")
    return found


async def _load_kubeconfig(files: list[str], configuration: client.Configuration) -> None:
    """Raises ApiError, whose message quotes nothing of the file: its content may be secret."""
    try:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            os.pathsep.join(files), client_configuration=configuration
        )
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        if isinstance(error, config.ConfigException):
            why = " ".join(str(error).split())
        else:
            why = f"line {mark.line + 1} is not YAML" if mark else type(error).__name__
        raise ApiError(0, f"the kubeconfig {', '.join(files)} cannot be used: {why}") from None


def _read_wait(headers: Mapping[str, str] | None) -> float:
    """Seconds, from Retry-After; 0 if it is not there, or a date."""
    told = (headers or {}).get("Retry-After", "")
    return float(told) if told.isascii() and told.isdigit() else 0.0


def _translate(status: int, body: str | bytes | None, reason: str | None, wait: float) -> ApiError:
    try:
        told = json.loads(body or "{}")
    except ValueError:
        told = {}
    message = " ".join(str(told.get("message") or reason or f"status {status}").split())
    kind = {404: NotFound, 422: Refused, 403: Refused, 400: Refused}.get(status, ApiError)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or any(s in message for s in _TOO_LARGE):
        kind = Refused
    if status == 409:
        kind = AlreadyExists if told.get("reason") == "AlreadyExists" else Conflict
    return kind(status, message, wait=wait)
