"""A reverse proxy before an API server or an S3, that delays, spoils or loses what it is told to.

It passes watches on as they come, and signatures of S3 hold, as the Host header stays. Its rule
sees each request, and may run what it likes, such as a kill, before or after the request is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_LARGEST = 1 << 30  # bytes of a request
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. ``path`` with its query."""

    method: str
    path: str
    peer: str = ""
    """The address of who asks."""


@dataclass(frozen=True, slots=True)
class Spoil:
    """What is done to a request, in this order."""

    wait: float = 0.0
    """Seconds until it is passed on."""
    before: Callable[[], None] | None = None
    instead: int | None = None
    """Nothing is passed on; this status is the answer."""
    body: bytes = b""
    """Of that answer."""
    then: Callable[[], None] | None = None
    """After it was done, before it is answered."""
    is_lost: bool = False
    """It is done, and the connection closed without an answer."""
    lag: float = 0.0
    """Seconds by which each piece of the answer comes late: of a watch, each event."""


Rule = Callable[[Asked], Spoil | None]


class Proxy:
    """From ``address`` to ``target``, a URL without path. ``rule`` may be changed at any time."""

    def __init__(
        self, target: str, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.rule: Rule = lambda _: None
        self.endpoint = ""
        self._target = target
        self._host = host
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._is_ready = threading.Event()
        self._is_over = asyncio.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        thread = threading.Thread(target=self._run)
        thread.start()
        assert self._is_ready.wait(_START_SECONDS), "the proxy does not start"
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._is_over.set)
            thread.join()
            self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.run_until_complete(_cancel_all())

    async def _serve(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls or True, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as self._session:
            app = web.Application(client_max_size=_LARGEST)
            app.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
            await runner.setup()
            site = web.TCPSite(runner, self._host, 0)
            await site.start()
            port = runner.addresses[0][1]
            self.endpoint = f"http://{self._host}:{port}"
            self._is_ready.set()
            await self._is_over.wait()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        spoil = self.rule(Asked(request.method, request.raw_path, request.remote or "")) or Spoil()
        body = await request.read()
        await asyncio.sleep(spoil.wait)
        if spoil.before is not None:
            await asyncio.to_thread(spoil.before)
        if spoil.instead is not None:
            return web.Response(status=spoil.instead, body=spoil.body)
        headers = {n: v for n, v in request.headers.items() if n.lower() not in _HOP_BY_HOP}
        try:
            async with self._session.request(
                request.method,
                URL(self._target + request.raw_path, encoded=True),
                data=body or None,
                headers=headers,
                skip_auto_headers=("Content-Type", "User-Agent", "Accept-Encoding", "Accept"),
                allow_redirects=False,
            ) as answer:
                return await self._pass_on(request, answer, spoil)
        except aiohttp.ClientError:
            return _cut(request)

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse, spoil: Spoil
    ) -> web.StreamResponse:
        if spoil.is_lost or spoil.then is not None:
            await answer.read()
            if spoil.then is not None:
                await asyncio.to_thread(spoil.then)
            if spoil.is_lost:
                return _cut(request)
        response = web.StreamResponse(status=answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                response.headers.add(name, value)
        try:
            await response.prepare(request)
            async for piece in _late(answer, spoil.lag):
                await response.write(piece)
            await response.write_eof()
        except (ConnectionError, aiohttp.ClientError):
            return _cut(request)
        return response


async def _cancel_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _late(answer: aiohttp.ClientResponse, lag: float) -> AsyncIterator[bytes]:
    """Its pieces in order, each so much later; those that follow do not wait for it twice."""
    if answer.method == "HEAD":
        return
    if not lag:
        async for piece in answer.content.iter_any():
            yield piece
        return
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes | None]]()

    async def fetch() -> None:
        try:
            async for piece in answer.content.iter_any():
                queue.put_nowait((loop.time() + lag, piece))
        finally:
            queue.put_nowait((loop.time() + lag, None))

    fetching = asyncio.create_task(fetch())
    try:
        while True:
            due, late = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if late is None:
                return
            yield late
    finally:
        fetching.cancel()


def _cut(request: web.Request) -> web.Response:
    """Close the connection without a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)
