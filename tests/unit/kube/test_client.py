"""What comes back from an API server, or from whatever stands before it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import pytest
from kubernetes.aio import client

from hippo.kube import client as module
from hippo.kube.client import AlreadyExists, Api, ApiError, Conflict, NotFound, Refused
from hippo.kube.resources import POD, STUDY


class Connection:
    """Answers all requests alike, but for the first ones, if it is told how."""

    def __init__(self, status: int, body: bytes, error: Exception | None = None) -> None:
        self.status, self.reason = status, "because"
        self.first: list[int] = []
        self.headers: dict[str, str] = {}
        self.asked = 0
        self._body, self._error = body, error

    async def param_serialize(self, **_: Any) -> tuple[Any, ...]:
        return ("GET", "https://server", {}, None)

    async def call_api(self, *_: Any, **_options: Any) -> Connection:
        self.asked += 1
        if self._error is not None:
            raise self._error
        if self.first:
            made = Connection(self.first.pop(0), b"")
            made.headers = self.headers
            return made
        return self

    async def read(self) -> bytes:
        return self._body


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", (0.0, 0.0))


def get(status: int, body: bytes = b"{}", error: Exception | None = None) -> dict[str, Any]:
    api = Api(cast(client.ApiClient, Connection(status, body, error)))
    return asyncio.run(api.get(STUDY, "research", "a"))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"message": "no such study"}', NotFound),
        (409, b'{"reason": "AlreadyExists"}', AlreadyExists),
        (409, b'{"reason": "Conflict"}', Conflict),
        (422, b"{}", Refused),
        (403, b"{}", Refused),
        (429, b"", ApiError),
        (503, b"<html>", ApiError),
        (200, b"<html>a proxy's", ApiError),
        (200, b"[]", ApiError),
        (200, b"", ApiError),
    ],
)
def test_every_failure_is_an_api_error_of_one_line(
    status: int, body: bytes, kind: type[ApiError]
) -> None:
    with pytest.raises(ApiError) as error:
        get(status, body)
    assert type(error.value) is kind
    assert error.value.status == status
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "error", [aiohttp.ClientConnectionError("gone"), TimeoutError(), ConnectionResetError()]
)
def test_no_answer_is_a_failure_too(error: Exception) -> None:
    with pytest.raises(ApiError) as found:
        get(0, error=error)
    assert found.value.status == 0


def test_an_answer_is_a_document() -> None:
    assert get(200, b'{"kind": "Study"}') == {"kind": "Study"}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_asked_again(status: int) -> None:
    connection = Connection(200, b'{"kind": "Study"}')
    connection.first = [status, status]
    api = Api(cast(client.ApiClient, connection))
    assert asyncio.run(api.get(STUDY, "research", "a")) == {"kind": "Study"}
    assert connection.asked == 3
    connection.first = [status] * 3
    with pytest.raises(ApiError) as error:
        asyncio.run(api.get(STUDY, "research", "a"))
    assert error.value.status == status


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422])
def test_what_does_not_pass_is_not(status: int) -> None:
    connection = Connection(status, b"{}")
    with pytest.raises(ApiError):
        asyncio.run(Api(cast(client.ApiClient, connection)).get(STUDY, "research", "a"))
    assert connection.asked == 1


def test_the_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    connection = Connection(200, b"{}")
    for told, wait in (("3", 3.0), ("3600", 10.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)):
        connection.first, connection.headers = [429], {"Retry-After": told}
        asyncio.run(Api(cast(client.ApiClient, connection)).get(STUDY, "research", "a"))
        assert waits.pop() == wait


def test_a_name_leads_nowhere_but_into_its_namespace() -> None:
    path = POD.path("research", "x/../../../namespaces/other/pods/y?dryRun=All")
    assert path.startswith("/api/v1/namespaces/research/pods/x%2F..%2F")
    assert "?" not in path
    assert STUDY.path("research", "a", "status").endswith("/namespaces/research/studies/a/status")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (413, b"Request entity too large: limit is 3145728"),
        (500, b"etcdserver: request is too large"),
        (500, b"rpc error: trying to send message larger than max (2306521 vs. 2097152)"),
    ],
)
def test_an_object_that_is_too_large_is_refused_at_once(code: int, words: bytes) -> None:
    connection = Connection(code, b'{"message": "%s"}' % words)
    api = Api(cast(client.ApiClient, connection))
    with pytest.raises(Refused):
        asyncio.run(api.get(STUDY, "research", "a"))
    assert connection.asked == 1
