"""Reads a whole plan after a restart; skips damaged records and reports them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hippo.protocol.decisions import Decision
from hippo.protocol.records import Manifest
from hippo.protocol.reports import REPORT, Report
from hippo.store.blobs import BlobInfo, Blobs, MissingBlob, Unreadable, check_size
from hippo.store.bounds import MAX_BYTES, Held, Kind
from hippo.store.concurrency import map_together
from hippo.store.encoding import (
    LedgerChunk,
    PlanRecord,
    check_format,
    check_version,
    decode,
    decode_decision,
    decode_manifest,
    fetch,
)
from hippo.store.layout import Layout, number_of

T = TypeVar("T")

RESTORE = "restore it from a backup, or delete the study's folder in the store to begin it afresh"
_UNLOADED = (Kind.SPENDING, Kind.CONTROL, Kind.REQUEST, Kind.ANSWER)


@dataclass(frozen=True)
class PlanRecords:
    """The records of a plan's store. Damaged ones are left out and described in ``problems``."""

    signature: dict[str, Any] | None = None  # the document given to initialise(), if any
    manifests: dict[str, Manifest] = field(default_factory=dict)  # by key, sorted; data exists
    reports: dict[str, list[Report]] = field(default_factory=dict)  # by chain, sorted; in order
    unfolded: frozenset[str] = frozenset()  # chains with reports outside the ledger
    broken: frozenset[str] = frozenset()  # chains with a damaged or missing report
    orphans: frozenset[str] = frozenset()  # keys with data but no manifest: a writer was killed
    strays: tuple[BlobInfo, ...] = ()  # further data of an intact manifest: a writer lost
    problems: tuple[str, ...] = ()  # one line each


def decode_report(data: bytes, chain: str, number: int) -> Report:
    """Decodes a report. Raises NewerFormat; Unreadable also if its chain or number is wrong."""
    what = f"report {number} of chain {chain}"
    report = decode(REPORT.validate_json, data, what)
    if report.chain != chain or report.sequence_number != number:
        raise Unreadable(f"{what} is report {report.sequence_number} of chain {report.chain}")
    return report


def read_all(
    blobs: Blobs, infos: Iterable[BlobInfo], kind: Kind, read: Callable[[str, bytes], T]
) -> Iterator[T | Unreadable | None]:
    """Yields records in the listed order, as ``read`` returns them from name and bytes.

    Yields None for a record deleted meanwhile, and Unreadable for one that is too large or damaged;
    too large ones are not requested. Raises StoreError.
    """

    def get(info: BlobInfo) -> T | Unreadable | None:
        try:
            check_size(info.name, info.size, MAX_BYTES[kind])
            return read(info.name, fetch(blobs, info.name, kind))
        except MissingBlob:
            return None
        except Unreadable as error:
            return error

    return map_together(get, infos, is_remote=blobs.is_remote)


def load(blobs: Blobs, layout: Layout) -> PlanRecords:
    """Reads a plan.

    Raises Unreadable if there is too much to hold; StoreError if the store fails or was written by
    a newer Hippo.
    """
    problems: list[str] = []
    held = Held(f"plan {layout.everything[:-1]}")
    signature = read_signature(blobs, layout, problems)
    manifests, orphans, strays = _read_manifests(blobs, layout, problems, held)
    live, unfolded, broken = _read_live_reports(blobs, layout, problems, held)
    by_chain: dict[str, dict[int, Report]] = {}
    for chunk in read_ledger(blobs, layout, problems, held):
        for chain, reports in chunk.chains.items():
            by_chain.setdefault(chain, {}).update((r.sequence_number, r) for r in reports)
    for report in live:
        by_chain.setdefault(report.chain, {})[report.sequence_number] = report
    ordered = {}
    for chain in sorted(by_chain):
        numbers = sorted(by_chain[chain])
        if len(numbers) != numbers[-1] + 1:
            gap = next(i for i in range(numbers[-1] + 1) if i not in by_chain[chain])
            problems.append(f"report {gap} of chain {chain} is missing, though later ones exist")
            broken.add(chain)
        ordered[chain] = [by_chain[chain][number] for number in numbers]
    return PlanRecords(
        signature=signature,
        manifests=manifests,
        reports=ordered,
        unfolded=unfolded,
        broken=frozenset(broken),
        orphans=orphans,
        strays=strays,
        problems=tuple(problems),
    )


def read_ledger(
    blobs: Blobs, layout: Layout, problems: list[str], held: Held
) -> Iterator[LedgerChunk]:
    infos = layout.numbered(blobs.list(layout.ledger))
    held.add(_sizes(infos, Kind.LEDGER))
    for info in infos:
        try:
            check_size(info.name, info.size, MAX_BYTES[Kind.LEDGER])
            data = fetch(blobs, info.name, Kind.LEDGER)
            chunk = decode(LedgerChunk.model_validate_json, data, info.name)
            for reports in chunk.chains.values():
                for report in reports:
                    check_version(report.format_version, info.name)
        except (Unreadable, MissingBlob) as error:
            problems.append(str(error))
            continue
        yield chunk


def read_signature(blobs: Blobs, layout: Layout, problems: list[str]) -> dict[str, Any] | None:
    try:
        data = fetch(blobs, layout.plan, Kind.PLAN)
        return decode(PlanRecord.model_validate_json, data, layout.plan).signature
    except MissingBlob:
        return None
    except Unreadable as error:
        problems.append(str(error))
        return None


def _sizes(infos: Iterable[BlobInfo], kind: Kind) -> Iterator[int]:
    """Yields the sizes of the records that will be read."""
    return (info.size for info in infos if info.size <= MAX_BYTES[kind])


def _read_manifests(
    blobs: Blobs, layout: Layout, problems: list[str], held: Held
) -> tuple[dict[str, Manifest], frozenset[str], tuple[BlobInfo, ...]]:
    # Manifests first: data is written before its manifest, so every listed manifest has its data.
    infos = [
        info
        for info in blobs.list(layout.manifests)
        if info.name.endswith(".json") and layout.kind_of(info.name) is Kind.MANIFEST
    ]
    stored = blobs.list(layout.data)
    held.add(_sizes(infos, Kind.MANIFEST))
    sizes = {info.name: info.size for info in stored}
    manifests: dict[str, Manifest] = {}
    known = set()

    def read(name: str, data: bytes) -> Manifest:
        key = name[len(layout.manifests) : -len(".json")]
        return decode_manifest(data, f"the manifest of checkpoint {key}")

    found = read_all(blobs, infos, Kind.MANIFEST, read)
    for info, manifest in zip(infos, found, strict=True):
        key = info.name[len(layout.manifests) : -len(".json")]
        known.add(key)
        if manifest is None:
            continue  # deleted meanwhile
        if isinstance(manifest, Unreadable):
            problems.append(str(manifest))
            continue
        if manifest.key != key:
            problems.append(f"checkpoint {key}: its manifest is that of {manifest.key}")
            continue
        size = sizes.get(f"{layout.data}{key}/{manifest.sha256}")
        if size is None:
            problems.append(f"checkpoint {key}: its data is missing")
        elif size != manifest.size:
            problems.append(
                f"checkpoint {key}: its data has {size} bytes instead of {manifest.size}"
            )
        else:
            manifests[key] = manifest
    orphans: set[str] = set()
    strays: list[BlobInfo] = []
    for info in stored:
        key, _, sha256 = info.name[len(layout.data) :].partition("/")
        if key not in known:
            orphans.add(key)
        elif key in manifests and sha256 != manifests[key].sha256:
            strays.append(info)
    return manifests, frozenset(orphans), tuple(strays)


def _read_live_reports(
    blobs: Blobs, layout: Layout, problems: list[str], held: Held
) -> tuple[list[Report], frozenset[str], set[str]]:
    """Returns reports outside the ledger, their chains, and chains with unreadable reports."""
    reports: list[Report] = []
    chains, broken = set[str](), set[str]()
    infos = layout.numbered(blobs.list(layout.reports))
    held.add(_sizes(infos, Kind.REPORT))

    def read(name: str, data: bytes) -> Report:
        return decode_report(data, chain_of(name), number_of(name) or 0)

    def chain_of(name: str) -> str:
        return name[len(layout.reports) :].partition("/")[0]

    found = read_all(blobs, infos, Kind.REPORT, read)
    for info, report in zip(infos, found, strict=True):
        chain = chain_of(info.name)
        chains.add(chain)
        if isinstance(report, Unreadable):
            problems.append(str(report))
            broken.add(chain)
        elif report is not None:  # else folded meanwhile
            reports.append(report)
    return reports, frozenset(chains), broken


def read_decisions(blobs: Blobs, layout: Layout, study: str) -> list[Decision]:
    """Implements ``PlanStore.read_decisions``."""
    decisions: list[Decision] = []
    trials = 0  # suggested so far
    infos = layout.numbered(blobs.list(layout.decisions_of(study)))

    def read(name: str, data: bytes) -> Decision:
        return decode_decision(data, f"decision {number_of(name)} of study {study} ({name})")

    Held(f"study {study}").add(_sizes(infos, Kind.DECISION))
    found = read_all(blobs, infos, Kind.DECISION, read)
    for info, decision in zip(infos, found, strict=True):
        index = len(decisions)
        if decision is None or number_of(info.name) != index:
            raise Unreadable(f"decision {index} of study {study} is missing: {RESTORE}")
        if isinstance(decision, Unreadable):
            raise Unreadable(f"{decision}: {RESTORE}")
        fault = _find_fault(decision, index, trials)
        if fault is not None:
            what = f"decision {index} of study {study} ({info.name})"
            raise Unreadable(f"{what} {fault}: {RESTORE}")
        trials += decision.kind == "suggest"
        decisions.append(decision)
    return decisions


def _find_fault(decision: Decision, index: int, trials: int) -> str | None:
    """Returns why this cannot be the decision with this index, after ``trials`` trials, or None."""
    if decision.index != index:
        return f"is decision {decision.index}"
    is_known = decision.trial == trials if decision.kind == "suggest" else decision.trial < trials
    if not is_known:
        return f"cannot be followed: it is about trial {decision.trial} of {trials} before it"
    if decision.parent is not None and decision.parent >= trials:
        return f"cannot be followed: its parent, trial {decision.parent}, comes after it"
    return None


def check_formats(blobs: Blobs, layout: Layout) -> None:
    """Implements ``PlanStore.check_formats``."""
    infos = blobs.list(layout.everything)
    for kind in _UNLOADED:
        found = [info for info in infos if layout.kind_of(info.name) is kind]
        for _ in read_all(blobs, found, kind, check_format):
            pass
