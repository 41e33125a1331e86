"""``hippo store``: lists what a store holds and for whom, and cleans up."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Annotated

import typer

from hippo.cli.arguments import (
    NamedNamespaceOption,
    NamespaceOption,
    StoreArgument,
    find_named,
    open_store,
    read_namespace,
)
from hippo.cli.render import store_tables
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.sizes import describe_size, parse_size
from hippo.gc import collect, delete_study, list_store
from hippo.store import PlanLock, PlanStore, StoreError, clusters
from hippo.store.clusters import CLUSTER_PATTERN

app = typer.Typer(
    name="store",
    help="List what a store holds and for whom, and clean up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def ls(
    store: StoreArgument = None,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List plans and studies, what is kept for each study, and what gc would remove.

    Exit status 1 if a plan cannot be read, in whole or in part: it says so, and hides no other.
    """
    opened = open_store(store)
    links: list[str] = []
    only = read_namespace(namespace)
    listings = list_store(opened.blobs, now=time.time(), namespace=only, links=links)
    if output is Output.JSON:
        print_json({**store_tables.listing_to_json(opened.url, listings), "links": links})
    else:
        store_tables.print_links(open_console(), links)
        store_tables.print_listing(open_console(), listings)
    if any(listing.problems for listing in listings):
        raise typer.Exit(1)


@app.command()
def rm(
    study: Annotated[
        str,
        typer.Argument(help="A study's file (- is standard input) or name.", show_default=False),
    ],
    store: StoreArgument = None,
    namespace: NamedNamespaceOption = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Only in this plan (its first digits will do). Default: in all of them.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Mark a study as deleted. Frees nothing yet.

    Other studies can reuse what it retains for its checkpoints.ttl; after that gc removes it, and
    the study's records. A study run again under this name begins afresh.
    """
    named = find_named(study, store, namespace)
    deleted: list[str] = []
    for item in named.found:
        if plan is not None and not item.plan.partition("/")[2].startswith(plan):
            continue
        plan_store = PlanStore(named.store.blobs, item.plan)
        lock = PlanLock(plan_store)
        lock.acquire()
        try:
            delete_study(plan_store, named.name, now=time.time())
        finally:
            with contextlib.suppress(StoreError):  # the lock then expires
                lock.release()
        deleted.append(item.plan)
    if not deleted:
        raise StoreError(f"no plan of study {named.name} begins with {plan}: see hippo store ls")
    if output is Output.JSON:
        print_json({"study": named.name, "namespace": named.namespace, "plans": deleted})
    else:
        for path in deleted:
            open_console().print(f"{path}: {named.name} is deleted", soft_wrap=True)


@app.command()
def adopt(
    namespace: Annotated[
        str,
        typer.Option("--namespace", "-n", help="Namespace, as in the store.", show_default=False),
    ],
    cluster_uid: Annotated[
        str,
        typer.Option(
            help="Uid of the cluster that takes over: kubectl get namespace kube-system -o"
            " jsonpath='{.metadata.uid}', or the --cluster-uid of its operator.",
            show_default=False,
        ),
    ],
    store: StoreArgument = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a cluster take over a namespace of the store from another one, or after a rebuild.

    First create the Studies in that cluster: its operator's next clean-up counts all others as
    deleted, and keeps what they retain for their checkpoints.ttl.
    """
    if re.fullmatch(CLUSTER_PATTERN, cluster_uid) is None:
        raise StoreError(f"--cluster-uid {cluster_uid!r}: must be a uid, such as kubectl tells")
    opened, named = open_store(store), read_namespace(namespace)
    assert named is not None
    before = clusters.adopt(opened.blobs, named, cluster_uid)
    if output is Output.JSON:
        print_json({"namespace": named, "cluster": cluster_uid, "before": before})
        return
    was = f" (before: {before})" if before not in (None, cluster_uid) else ""
    open_console().print(
        f"namespace {named} belongs to cluster {cluster_uid}{was}", soft_wrap=True, highlight=False
    )


@app.command()
def gc(
    store: StoreArgument = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Remove more, until the store is no larger than this (10GB, 500MiB).",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")
    ] = False,
    namespace: NamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove checkpoints that no study retains, deleted studies, and leftovers of killed writers.

    Skips plans that are in use. With --max-bytes, also removes checkpoints that ended studies
    retain, beginning with those that are cheapest to train again per byte; never what a study that
    has not ended may need, a best trial's checkpoint, or results.
    """
    budget = parse_size(max_bytes, "--max-bytes") if max_bytes is not None else None
    opened = open_store(store)
    found = collect(
        opened.blobs,
        now=time.time(),
        namespace=read_namespace(namespace),
        max_bytes=budget,
        dry_run=dry_run,
    )
    if output is Output.JSON:
        print_json(store_tables.collection_to_json(opened.url, found, dry_run=dry_run))
    else:
        store_tables.print_collection(open_console(), found, dry_run=dry_run)
    if found.over_budget:
        raise StoreError(
            f"the rest is {describe_size(found.over_budget)} over {max_bytes}: it is needed by"
            " studies that have not ended, best of its study, results, or in use: delete studies"
            " (hippo store rm), or raise --max-bytes"
        )
    if found.failed:
        raise typer.Exit(1)
