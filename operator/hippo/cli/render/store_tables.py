"""Listings and clean-ups of a store, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from hippo.cli.render.rows import Column, Listing
from hippo.cli.render.sizes import describe_size
from hippo.gc import Collection, PlanListing, Scope, StudyListing, Swept
from hippo.model.words import counted

_WHY = {
    Scope.PLAN: "all of its plan: it has not ended",
    Scope.PATHS: "all on its way",
    Scope.BEST: "its best",
    Scope.NOTHING: "nothing",
}
_MAY_GO_ON = "all on its way: it may go on"


def print_listing(console: Console, listings: list[PlanListing]) -> None:
    """Print a block for each plan, then totals."""
    for listing in listings:
        title = Text.assemble((f"{listing.namespace}/{listing.name}", "bold"))
        if listing.entrypoint:
            title.append(f"  {listing.entrypoint}")
        title.append(f"  {describe_size(listing.bytes)}")
        if listing.last_use:
            title.append(f"  last used {_moment(listing.last_use)}")
        console.print(title, soft_wrap=True)
        for line in _lines(listing):
            console.print(Text(f"  {line}"), soft_wrap=True)
        if listing.studies:
            console.print(Padding(_list_studies(listing), (0, 0, 0, 2)))
    studies = sum(len(item.studies) for item in listings)
    console.print(
        f"{counted(len(listings), 'plan')}, {counted(studies, 'study', 'studies')},"
        f" {counted(sum(item.checkpoints for item in listings), 'checkpoint')},"
        f" {describe_size(sum(item.bytes for item in listings))} in all",
    )


def _lines(listing: PlanListing) -> Iterator[str]:
    if listing.checkpoints or listing.results:
        line = (
            f"{counted(listing.checkpoints, 'checkpoint')},"
            f" {describe_size(listing.checkpoint_bytes)}; {counted(listing.results, 'result')}"
        )
        if listing.unwanted:
            line += (
                f"; gc would remove {counted(listing.unwanted, 'checkpoint')},"
                f" {describe_size(listing.unwanted_bytes)}"
            )
        yield line
    if listing.in_use is not None:
        yield listing.in_use
    yield from listing.problems


def _list_studies(listing: PlanListing) -> Listing:
    names = ("study", "state", "retain", "best trial", "keeps", "checkpoints", "until")
    table = Listing([Column(name, is_folded=name == "keeps") for name in names])
    for study in listing.studies:
        until = study.intent.until or study.may_go_on_until
        table.add(
            study.name,
            _state(study),
            study.retain,
            f"{study.name}-{study.best_trial}" if study.best_trial is not None else "-",
            _WHY[study.intent.scope] if study.may_go_on_until is None else _MAY_GO_ON,
            f"{study.checkpoints}, {describe_size(study.bytes)}" if study.checkpoints else "-",
            _moment(until) if until is not None else "",
        )
    return table


def _state(study: StudyListing) -> str:
    if study.intent.until is not None:
        return "Deleted"
    return study.state if study.state is not None else "not ended"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M}"


def listing_to_json(url: str, listings: list[PlanListing]) -> dict[str, Any]:
    """Return the document of ``hippo store ls -o json``. Times are Unix times, sizes bytes."""
    return {
        "store": url,
        "plans": [
            {
                "namespace": listing.namespace,
                "plan": listing.name,
                "entrypoint": listing.entrypoint,
                "bytes": listing.bytes,
                "lastUse": listing.last_use or None,
                "inUse": listing.in_use,
                "results": listing.results,
                "checkpoints": {
                    "count": listing.checkpoints,
                    "bytes": listing.checkpoint_bytes,
                    "unwanted": listing.unwanted,
                    "unwantedBytes": listing.unwanted_bytes,
                },
                "studies": [
                    {
                        "study": study.name,
                        "state": study.state,
                        "message": study.message,
                        "retain": study.retain,
                        "best": study.best_trial,
                        "isDeleted": study.intent.until is not None,
                        "keeps": str(study.intent.scope),
                        "checkpoints": study.checkpoints,
                        "bytes": study.bytes,
                        "until": study.intent.until,
                        "mayGoOnUntil": study.may_go_on_until,
                        "lastUse": study.updated or None,
                    }
                    for study in listing.studies
                ],
                "problems": list(listing.problems),
            }
            for listing in listings
        ],
        "checkpoints": sum(listing.checkpoints for listing in listings),
        "bytes": sum(listing.bytes for listing in listings),
    }


def print_collection(console: Console, collection: Collection, *, dry_run: bool) -> None:
    """Print a line for each plan with news, then totals."""
    for swept in collection.plans:
        for line in _told(swept):
            console.print(Text.assemble((swept.plan, "bold"), f": {line}"), soft_wrap=True)
    if collection.cleaned:
        told = counted(collection.cleaned, "unfinished write")
        console.print(f"{told} of processes that were killed")
    if collection.not_cleaned is not None:
        console.print(Text(f"unfinished writes stay: {collection.not_cleaned}"), soft_wrap=True)
    print_links(console, collection.links)
    freed = collection.bytes_before - collection.bytes_after
    console.print(
        f"{describe_size(freed)} {'would be ' if dry_run else ''}freed,"
        f" {describe_size(collection.bytes_after)} left",
    )


def print_links(console: Console, links: Iterable[str]) -> None:
    """Print the names of symbolic links in a store that are in no plan."""
    for link in links:
        told = ": left alone: a symbolic link, which is not followed"
        console.print(Text.assemble((link, "bold"), told), soft_wrap=True)


def _told(swept: Swept) -> Iterator[str]:
    if swept.skipped is not None:
        yield f"skipped: {swept.skipped}"
        return
    yield from (f"left alone: {problem}" for problem in swept.problems)
    parts = [
        counted(number, noun) + more
        for number, noun, more in (
            (swept.checkpoints, "checkpoint", " that no study retains"),
            (swept.evicted, "checkpoint", " given up for room"),
            (swept.fragments, "fragment", " of checkpoints"),
            (swept.folded, "ended chain", " folded"),
        )
        if number
    ]
    parts += [f"the deleted study {name}" for name in swept.studies]
    if swept.is_gone:
        parts.append("the whole plan")
    if parts:
        yield f"{', '.join(parts)}: {describe_size(swept.freed)}"


def collection_to_json(url: str, collection: Collection, *, dry_run: bool) -> dict[str, Any]:
    """Return the document of ``hippo store gc -o json``. Sizes are bytes."""
    return {
        "store": url,
        "dryRun": dry_run,
        "plans": [
            {
                "namespace": swept.plan.partition("/")[0],
                "plan": swept.plan.partition("/")[2],
                "checkpoints": swept.checkpoints,
                "evicted": swept.evicted,
                "fragments": swept.fragments,
                "studies": list(swept.studies),
                "chainsFolded": swept.folded,
                "isGone": swept.is_gone,
                "bytesFreed": swept.freed,
                "skipped": swept.skipped,
                "problems": list(swept.problems),
            }
            for swept in collection.plans
        ],
        "links": list(collection.links),
        "unfinishedWrites": collection.cleaned,
        "bytesFreed": collection.bytes_before - collection.bytes_after,
        "bytesLeft": collection.bytes_after,
        "bytesOverBudget": collection.over_budget,
    }
