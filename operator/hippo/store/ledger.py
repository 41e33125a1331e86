"""The ledger: reports of chains that have ended, many to a blob.

A long search leaves tens of thousands of small reports. They are copied into a chunk and deleted
once the chunk is durable. A crash in between leaves both, and a reader takes each report once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hippo.protocol.reports import Report, is_bar
from hippo.store.blobs import Blobs, MissingBlob, Unreadable
from hippo.store.bounds import FOLDED_BYTES, MAX_BYTES, Kind
from hippo.store.concurrency import map_together
from hippo.store.encoding import LedgerChunk, encode, fetch
from hippo.store.layout import Layout, number_of
from hippo.store.loading import decode_report

_CHUNK = 10_000  # reports, about 3 MB; fewer if they are larger


def fold(blobs: Blobs, layout: Layout, chains: Iterable[str]) -> None:
    """Moves the reports of these chains into the ledger.

    Raises StoreError if the store fails or holds a report of a newer Hippo.
    """
    for batch in _batches(blobs, layout, chains):
        _append(blobs, layout, encode(LedgerChunk(chains=batch), Kind.LEDGER))
        for _ in map_together(
            lambda reports: _forget(blobs, layout, reports),
            batch.values(),
            is_remote=blobs.is_remote,
        ):
            pass


def _forget(blobs: Blobs, layout: Layout, reports: list[Report]) -> None:
    # The last one first: the rest after a crash then still begins with report 0.
    for report in reversed(reports):
        blobs.delete(layout.report(report.chain, report.sequence_number))
    blobs.delete(layout.control(reports[0].chain))


def _batches(
    blobs: Blobs, layout: Layout, chains: Iterable[str]
) -> Iterator[dict[str, list[Report]]]:
    batch: dict[str, list[Report]] = {}
    size = 0
    names = list(dict.fromkeys(chains))
    found = map_together(
        lambda chain: _read_whole(blobs, layout, chain), names, is_remote=blobs.is_remote
    )
    for chain, (reports, more) in zip(names, found, strict=True):
        if reports:
            batch[chain] = reports
            size += more
        if size >= FOLDED_BYTES or sum(map(len, batch.values())) >= _CHUNK:
            yield batch
            batch, size = {}, 0
    if batch:
        yield batch


def _read_whole(blobs: Blobs, layout: Layout, chain: str) -> tuple[list[Report], int]:
    """Returns a chain's reports and their bytes; none if they must stay where they are.

    That is so if one is damaged or missing, if they are too many for a chunk, or if the chain was
    barred from starting.
    """
    reports: list[Report] = []
    infos = layout.numbered(blobs.list(layout.reports_of(chain)))
    size = sum(info.size for info in infos)
    if size > MAX_BYTES[Kind.LEDGER] // 4:
        return [], 0
    for info in infos:
        if number_of(info.name) != len(reports):
            return [], 0
        try:
            data = fetch(blobs, info.name, Kind.REPORT)
            reports.append(decode_report(data, chain, len(reports)))
        except (Unreadable, MissingBlob):
            return [], 0
    if reports and is_bar(reports[0]):
        return [], 0  # it bars a worker for as long as it exists
    return reports, size


def _append(blobs: Blobs, layout: Layout, chunk: bytes) -> None:
    taken = {number_of(info.name) for info in blobs.list(layout.ledger)}
    number = next(n for n in range(len(taken) + 1) if n not in taken)
    while not blobs.put(layout.ledger_chunk(number), chunk, if_absent=True):
        number += 1
