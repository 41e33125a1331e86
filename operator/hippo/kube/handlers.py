"""kopf: informer and life-cycle, nothing else. The only module that imports it.

Every handler is of the kind ``on.event``: these keep nothing in objects, add no finalizers and are
told all objects again whenever a watch begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import kopf

from hippo.kube import names
from hippo.kube.client import ApiError, connect
from hippo.kube.controller.controller import Operator
from hippo.kube.controller.store_gc import sweep_for_ever
from hippo.kube.observability import health
from hippo.kube.observability.logs import guard_handlers
from hippo.kube.observability.metrics import Metrics
from hippo.kube.settings import Settings, build_holder
from hippo.store import Blobs

EXIT_SECONDS = 45.0
REQUESTS_AT_ONCE = 64
"""To the store; what takes processor time has threads of its own."""
START_SECONDS = 30.0
"""For so long the operator waits at its start for an API server that lets it list Studies."""

log = logging.getLogger(__name__)


def run(settings: Settings, blobs: Blobs, *, as_json: bool, verbose: bool) -> None:
    """Operate until SIGTERM or SIGINT; logs go to standard error, ``as_json`` or as text."""
    log_format = kopf.LogFormat.JSON if as_json else kopf.LogFormat.FULL
    kopf.configure(verbose=verbose, log_format=log_format)
    guard_handlers(as_json=as_json, layout=log_format.value)
    logging.getLogger("kopf").setLevel(logging.INFO if verbose else logging.WARNING)
    registry = kopf.OperatorRegistry()
    _register(registry, settings, blobs)
    try:
        kopf.run(
            registry=registry,
            # Or kopf asks for the user's name, which a container's user has not.
            identity=cast(Any, settings.identity),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=list(settings.namespaces),
            settings=_configure(kopf.OperatorSettings()),
        )
    except Exception as error:
        if not isinstance(error.__cause__, kopf.PermanentError):
            raise
        sys.exit(1)  # the log says why


def _configure(found: kopf.OperatorSettings) -> kopf.OperatorSettings:
    found.peering.standalone = True
    found.scanning.disabled = True
    found.persistence.finalizer = f"{names.GROUP}/finalizer"
    found.watching.server_timeout = 600
    found.watching.client_timeout = 660
    found.watching.connect_timeout = 10
    # Handlers filter what they are told; all other pods of the cluster are not to be told at all.
    found.watching.label_selectors["v1", "pods"] = names.LABEL_PLAN
    found.networking.request_timeout = 30
    found.networking.connect_timeout = 10
    found.posting.enabled = False
    found.process.ultimate_exiting_timeout = EXIT_SECONDS
    return found


def _register(registry: kopf.OperatorRegistry, settings: Settings, blobs: Blobs) -> None:
    stack = contextlib.AsyncExitStack()
    ready: asyncio.Future[Operator] | None = None

    async def operator() -> Operator:
        assert ready is not None, "events come after startup"
        return await ready

    @kopf.on.login(registry=registry)
    def log_in(**options: Any) -> Any:
        found = kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)
        return found and _Connection(
            **{field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
        )

    @kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
    async def start(**_: Any) -> None:
        nonlocal ready
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(REQUESTS_AT_ONCE, "requests"))
        ready = loop.create_future()
        try:
            api = await stack.enter_async_context(connect())
        except ApiError as error:
            raise kopf.PermanentError(str(error)) from None
        metrics = Metrics(per_study=settings.per_study_metrics)
        made = Operator(api, blobs, settings, metrics)
        await _try_to_list(made)
        if settings.metrics_port:
            try:
                served = await health.serve(
                    metrics, made.resync.find_problem, settings.metrics_port
                )
            except OSError as error:
                port = settings.metrics_port
                raise kopf.PermanentError(f"--metrics-port {port}: {error.strerror}") from None
            stack.push_async_callback(served.close)
        made.spawn(made.events.run(), "events")
        made.spawn(made.resync.run(), "resync")

        async def list_uids() -> set[str]:
            return {study["metadata"]["uid"] for study in await made.resync.list_studies()}

        made.spawn(
            sweep_for_ever(
                blobs,
                list_uids,
                build_holder(settings.identity),
                namespaces=settings.namespaces,
                is_open=made.is_open,
                is_known=made.is_known,
                identify=made.cluster.read,
                metrics=metrics,
            ),
            "sweeps",
        )
        ready.set_result(made)
        where = ", ".join(settings.namespaces) or "all namespaces"
        log.info("looking after %s; the store is %s", where, settings.store)
        made.shared.store_watch.note_failure(time.monotonic())  # or not: it finds out, and says so
        made.spawn(made.shared.store_watch.run(), "store")

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        if ready is not None and ready.done():
            await ready.result().stop()
        await stack.aclose()

    @kopf.on.event(names.GROUP, names.VERSION, names.STUDIES, registry=registry)
    async def on_study(body: kopf.Body, type: str | None, **_: Any) -> None:
        made = await operator()
        await _guarded(made.study_changed, dict(body), is_gone=type == "DELETED")

    @kopf.on.event(names.GROUP, names.VERSION, names.TRIALS, registry=registry)
    async def on_trial(body: kopf.Body, type: str | None, **_: Any) -> None:
        (await operator()).trial_changed(dict(body), is_gone=type == "DELETED")

    @kopf.on.event(names.GROUP, names.VERSION, names.SEARCH_PLANS, registry=registry)
    async def on_plan(body: kopf.Body, type: str | None, **_: Any) -> None:
        (await operator()).plan_changed(dict(body), is_gone=type == "DELETED")

    @kopf.on.event("v1", "pods", labels={names.LABEL_PLAN: kopf.PRESENT}, registry=registry)
    async def on_pod(body: kopf.Body, type: str | None, **_: Any) -> None:
        (await operator()).pod_changed(dict(body), is_gone=type == "DELETED")


async def _try_to_list(operator: Operator) -> None:
    """Nothing works without: better the pod is never ready, and its log says why."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            what = "Studies cannot be listed"
            await operator.resync.list_studies()
            what = "the store is not used"
            await operator.cluster.read()
            return
        except ApiError as error:
            if time.monotonic() > deadline:
                raise kopf.PermanentError(f"{what}: {error}") from None
            log.warning("%s: %s", what, error)
        await asyncio.sleep(2.0)


async def _guarded(call: Callable[..., Awaitable[None]], *args: Any, **options: Any) -> None:
    """kopf drops what a handler raises. What cannot be taken in now comes again with the resync."""
    for pause in (1.0, 5.0, None):
        try:
            await call(*args, **options)
            return
        except ApiError as error:
            log.warning("%s", error)
        if pause is not None:
            await asyncio.sleep(pause)


class _Connection(kopf.ConnectionInfo):
    """By the same rules as that of :func:`hippo.kube.client.connect`."""

    def as_ssl_context(self) -> ssl.SSLContext:
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
