"""Two pages for the cluster: ``/metrics`` for Prometheus and ``/healthz`` for the kubelet."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from hippo.kube.metrics import Metrics

Health = Callable[[], str | None]
"""Why the operator is not well, in a line; None: it is."""


class PageServer:
    """Serves until it is closed."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    @property
    def port(self) -> int:
        """The one that it listens at."""
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
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
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return PageServer(runner)
