"""What comes back from an API server, or from whatever stands before it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import pytest
from kubernetes.aio import client

from hippo.kube.api import (
    STUDY,
    AlreadyExists,
    Api,
    ApiError,
    Conflict,
    NotFound,
    Refused,
)


class Connection:
    """Answers all requests alike."""

    def __init__(self, status: int, body: bytes, error: Exception | None = None) -> None:
        self.status, self.reason = status, "because"
        self._body, self._error = body, error

    async def param_serialize(self, **_: Any) -> tuple[Any, ...]:
        return ("GET", "https://server", {}, None)

    async def call_api(self, *_: Any, **_options: Any) -> Connection:
        if self._error is not None:
            raise self._error
        return self

    async def read(self) -> bytes:
        return self._body


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
