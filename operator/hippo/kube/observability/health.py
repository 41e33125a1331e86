"""Two pages for the cluster: ``/metrics`` for Prometheus and ``/healthz`` for the kubelet.

Whoever reaches the port may send what they like, and as slowly as they like: connections are few,
and the oldest makes room for a new one, so that the kubelet is always heard and the operator keeps
its descriptors for the store and the API server. What is no request is no news for the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from hippo.kube.observability.metrics import Metrics

Health = Callable[[], str | None]
"""Why the operator is not well, in a line; None: it is."""

MAX_CONNECTIONS: Final = 64


class PageServer:
    """Serves until it is closed."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server

    @property
    def port(self) -> int:
        """The one that it listens at."""
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        await self._runner.cleanup()


async def serve(
    metrics: Metrics, health: Health, port: int, *, host: str | None = None
) -> PageServer:
    """Listens from here on; without a host, at all of this machine's addresses. Raises OSError."""

    async def show_metrics(request: web.Request) -> web.Response:
        text, content_type = metrics.expose(request.headers.get("Accept", ""))
        # As a header: aiohttp would take the version within it for a mistake.
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def show_health(_: web.Request) -> web.Response:
        reason = health()
        return web.Response(
            text="ok\n" if reason is None else f"{reason}\n", status=200 if reason is None else 503
        )

    application = web.Application()
    application.router.add_get("/metrics", show_metrics)
    application.router.add_get("/healthz", show_health)
    # Probes come every few seconds: an access log would be all that the log holds.
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, logger=_log())
    await runner.setup()
    pages = runner.server
    assert pages is not None

    def begin() -> asyncio.BaseProtocol:
        for oldest in pages.connections[: 1 - MAX_CONNECTIONS]:
            if oldest.transport is not None:
                oldest.transport.abort()
        return pages()

    try:
        server = await asyncio.get_running_loop().create_server(begin, host, port)
    except OSError:
        await runner.cleanup()
        raise
    return PageServer(runner, server)


def _log() -> logging.Logger:
    log = logging.getLogger("hippo.kube.observability.health")
    log.addFilter(_is_news)
    return log


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)
