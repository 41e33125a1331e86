"""The API server as the stand-in speaks to it: JSON in, JSON out, and watches."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

Document = dict[str, Any]

_SECONDS = 60.0
_LONGEST_LINE = 16 << 20  # bytes; an object


class Connection:
    """By a client certificate. Counts its calls."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server
        self.calls = 0

    async def call(
        self, method: str, path: str, body: Document | None = None, *, kind: str = "json"
    ) -> tuple[int, Document]:
        """The status and the answer."""
        self.calls += 1
        async with self._session.request(
            method,
            self._server + path,
            data=json.dumps(body) if body is not None else None,
            headers={"Content-Type": f"application/{kind}"},
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
        ) as answer:
            return answer.status, json.loads(await answer.read())

    async def watch(self, path: str, query: str) -> AsyncIterator[tuple[str, Document]]:
        """What is there, as ADDED, and every change since; begins anew when it is cut off."""
        while True:
            _, found = await self.call("GET", f"{path}?{query}")
            for item in found["items"]:
                yield "ADDED", item
            version = found["metadata"]["resourceVersion"]
            url = f"{self._server}{path}?{query}&watch=1&resourceVersion={version}"
            timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
            try:
                async with self._session.get(url, timeout=timeout) as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        yield event["type"], event["object"]
            except aiohttp.ClientError:
                await asyncio.sleep(1.0)


@asynccontextmanager
async def connect(config: Document) -> AsyncIterator[Connection]:
    """``config``: a kubeconfig with one cluster and one user."""
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=64), read_bufsize=_LONGEST_LINE
    ) as session:
        yield Connection(session, cluster["server"])
