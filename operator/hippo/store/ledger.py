"""The ledger: reports of chains that have ended, many to a blob.

A long search leaves tens of thousands of small reports. They are copied into a chunk, and deleted
once the chunk is durable. A crash in between leaves both, and a reader takes each report once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hippo.store.blobs import Blobs, MissingBlob
from hippo.store.encoding import LedgerChunk, Unreadable, encode
from hippo.store.layout import Layout, number_of
from hippo.store.loading import decode_report
from hippo.store.records import Report, is_bar
from hippo.store.together import map_together

_CHUNK = 10_000  # reports, about 3 MB


def fold(blobs: Blobs, layout: Layout, chains: Iterable[str]) -> None:
    """Raises StoreError if the store fails, or holds a report of a newer Hippo."""
    for batch in _batches(blobs, layout, chains):
        _append(blobs, layout, LedgerChunk(chains=batch))
        for _ in map_together(
            lambda reports: _forget(blobs, layout, reports),
            batch.values(),
            is_remote=blobs.is_remote,
        ):
            pass


def _forget(blobs: Blobs, layout: Layout, reports: list[Report]) -> None:
    # The last one first: what is left after a crash here still begins with report 0.
    for report in reversed(reports):
        blobs.delete(layout.report(report.chain, report.sequence_number))
    blobs.delete(layout.control(reports[0].chain))


def _batches(
    blobs: Blobs, layout: Layout, chains: Iterable[str]
) -> Iterator[dict[str, list[Report]]]:
    batch: dict[str, list[Report]] = {}
    names = list(dict.fromkeys(chains))
    found = map_together(
        lambda chain: _read_whole(blobs, layout, chain), names, is_remote=blobs.is_remote
    )
    for chain, reports in zip(names, found, strict=True):
        if reports:
            batch[chain] = reports
        if sum(map(len, batch.values())) >= _CHUNK:
            yield batch
            batch = {}
    if batch:
        yield batch


def _read_whole(blobs: Blobs, layout: Layout, chain: str) -> list[Report]:
    """A chain's reports; none if one of them is damaged or missing: nothing is lost in doubt. None
    either of a chain that never began.
    """
    reports: list[Report] = []
    for info in blobs.list(layout.reports_of(chain)):
        if number_of(info.name) != len(reports):
            return []
        try:
            reports.append(decode_report(blobs.get(info.name), chain, len(reports)))
        except (Unreadable, MissingBlob):
            return []
    if reports and is_bar(reports[0]):
        return []  # it keeps a worker out for as long as it stands there
    return reports


def _append(blobs: Blobs, layout: Layout, chunk: LedgerChunk) -> None:
    numbers = [number_of(info.name) or 0 for info in blobs.list(layout.ledger)]
    number = max(numbers, default=-1) + 1
    while not blobs.put(layout.ledger_chunk(number), encode(chunk), if_absent=True):
        number += 1
