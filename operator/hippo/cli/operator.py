"""``hippo operator``: runs the Kubernetes operator."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from hippo.cli.arguments import read_namespace
from hippo.kube.pods.template_allowance import BUILT_IN
from hippo.kube.settings import (
    Settings,
    read_allowance,
    read_default_requests,
    read_store_environment,
)
from hippo.kube.status.bounding import MAX_CHAINS
from hippo.store import StoreError, open_blobs
from hippo.store.given import mask


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


def operate(
    store: Annotated[
        str,
        typer.Option(
            envvar="HIPPO_STORE",
            help="Store of checkpoints and results: s3://bucket/prefix.",
            show_default=False,
        ),
    ],
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Namespace to watch; may be repeated. Default: all.",
            show_default=False,
        ),
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /metrics and /healthz; 0: none.")
    ] = 8080,
    max_workers: Annotated[
        int, typer.Option(min=1, max=MAX_CHAINS, help="Maximum number of pods of one plan at once.")
    ] = 100,
    default_parallelism: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of pods at once of a study without parallelism."),
    ] = 4,
    resync: Annotated[
        float, typer.Option(min=1.0, help="Seconds after which everything is checked again.")
    ] = 60.0,
    identity: Annotated[
        str,
        typer.Option(help="An operator that starts under the same identity takes over at once."),
    ] = "hippo",
    cluster_uid: Annotated[
        str | None,
        typer.Option(
            help="Identifies this cluster in the store. Default: the uid"
            " of the namespace kube-system.",
            show_default=False,
        ),
    ] = None,
    store_ca_configmap: Annotated[
        str | None,
        typer.Option(
            help="ConfigMap in each namespace with studies whose ca.crt stage pods trust.",
            show_default=False,
        ),
    ] = None,
    cache_claim: Annotated[
        str | None,
        typer.Option(
            help="PersistentVolumeClaim in each namespace with studies in which stage pods of one"
            " node share a cache of checkpoints.",
            show_default=False,
        ),
    ] = None,
    cache_bytes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Maximum size of that cache. Default: 10 GiB.", show_default=False
        ),
    ] = None,
    image_pull_policy: Annotated[
        str, typer.Option(help="Pull policy of trainers' images: Always, IfNotPresent or Never.")
    ] = "IfNotPresent",
    default_request: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=QUANTITY",
            help="Default request of stage pods whose study neither requests nor limits it, such as"
            " memory=1Gi or cpu=threads (as many as trainer.threads); may be repeated.",
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=NAME",
            help="Allow podTemplates to use this too, such as priorityClasses=batch or"
            f" labels=example.org/*; may be repeated. Kinds: {', '.join(BUILT_IN)}.",
            show_default=False,
        ),
    ] = None,
    own_namespace: Annotated[
        str | None,
        typer.Option(
            envvar="POD_NAMESPACE",
            help="Namespace of the operator's own pod and keys; studies there are refused.",
            show_default=False,
        ),
    ] = None,
    per_study_metrics: Annotated[
        bool,
        typer.Option(
            "--per-study-metrics",
            help="Show names and best values of studies at /metrics, to anyone who can read it.",
        ),
    ] = False,
    log_format: Annotated[LogFormat, typer.Option(help="Format of the log on standard error.")] = (
        LogFormat.TEXT
    ),
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run the Kubernetes operator until SIGTERM, with its pod's service account or KUBECONFIG."""
    try:
        from hippo.kube.handlers import run
    except ImportError as error:
        raise StoreError(
            f"the operator needs more packages ({error.name} is missing): pip install"
            " 'hippo-tuner[operator]'"
        ) from None
    store = store.strip()  # a ConfigMap made with echo ends with a line break
    if "://" not in store:
        raise StoreError(f"--store {mask(store)}: pods can only reach a bucket: s3://bucket/prefix")
    try:
        requests = read_default_requests(default_request or ())
        allowance = read_allowance(allow or ())
    except ValueError as error:
        raise StoreError(str(error)) from None
    settings = Settings(
        store=store,
        namespaces=tuple(read_namespace(name) or "" for name in namespace or ()),
        metrics_port=metrics_port,
        max_workers=max_workers,
        default_parallelism=default_parallelism,
        resync=resync,
        identity=identity,
        cluster_uid=cluster_uid,
        store_ca_configmap=store_ca_configmap,
        cache_claim=cache_claim,
        cache_bytes=cache_bytes,
        image_pull_policy=image_pull_policy,
        default_requests=requests,
        allowance=allowance,
        own_namespace=own_namespace or None,
        per_study_metrics=per_study_metrics,
        store_environment=read_store_environment(),
    )
    blobs = open_blobs(store)
    run(settings, blobs, as_json=log_format is LogFormat.JSON, verbose=verbose)
