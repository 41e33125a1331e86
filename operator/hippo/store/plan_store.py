"""Typed records of one plan in any Blobs: checkpoints, reports, controls, decisions, studies.

Everything lies below ``<plan>/``, the plan's path (``<namespace>/<name>``). Immutable records are
written with ``if_absent``, so writing twice is harmless and the first writer wins. A checkpoint's
manifest is written after its data and deleted before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hippo.protocol.assignments import Control
from hippo.protocol.decisions import Decision
from hippo.protocol.records import Manifest, Spending
from hippo.protocol.reports import Report, build_bar
from hippo.store import ledger, loading
from hippo.store.blobs import Blobs, CorruptCheckpoint, MissingBlob, StoreError, Unreadable
from hippo.store.bounds import Held, Kind
from hippo.store.cache import CheckpointCache
from hippo.store.concurrency import map_together
from hippo.store.encoding import (
    PlanRecord,
    StudyRecord,
    decode,
    decode_decision,
    decode_manifest,
    encode,
    encode_manifest,
    fetch,
)
from hippo.store.layout import Layout
from hippo.store.loading import PlanRecords

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HELD = (Kind.STUDY, Kind.DECISION)  # as long as a plan is open
_BLOCK = 1 << 20  # bytes per read while a checkpoint is verified


class PlanStore:
    """The records of one plan. Every failure is a StoreError of one line.

    Any number of workers may write; only the driver that holds the PlanLock may decide, fold and
    delete. With a ``cache``, the data of checkpoints is read from there if possible; whether a
    checkpoint exists is always read from the store.
    """

    def __init__(self, blobs: Blobs, plan: str, *, cache: CheckpointCache | None = None) -> None:
        self.blobs = blobs
        self.plan = plan
        self._cache = cache
        self._layout = Layout(plan)

    def initialise(self, signature_document: dict[str, Any]) -> None:
        """Begins the plan, or checks that its signature is this one. Idempotent.

        Raises StoreError if it was begun by a newer Hippo or for another trainer.
        """
        record = PlanRecord(signature=signature_document)
        if self.blobs.put(self._layout.plan, encode(record, Kind.PLAN), if_absent=True):
            return
        what = f"plan {self.plan} ({self._layout.plan})"
        try:
            data = fetch(self.blobs, self._layout.plan, Kind.PLAN)
            found = decode(PlanRecord.model_validate_json, data, what)
        except Unreadable as error:
            raise StoreError(f"{error}: restore it from a backup, or use another --store") from None
        if found.signature != json.loads(json.dumps(signature_document)):
            raise StoreError(f"{what} belongs to another trainer: use another --store")

    def read_signature(self) -> dict[str, Any] | None:
        """Returns the document given to ``initialise``; None if unreadable. Raises StoreError."""
        return loading.read_signature(self.blobs, self._layout, [])

    # Checkpoints

    def write_checkpoint(
        self,
        *,
        key: str,
        step: int,
        chunks: Sequence[bytes | memoryview],
        state_digest: str,
        fingerprint: dict[str, str],
        chain: str,
    ) -> tuple[Manifest, bool]:
        """Stores a checkpoint; returns its manifest, and whether another writer's exists already.

        A damaged one is replaced. Data that lost the race is removed.
        """
        existing = self._find_intact(key)
        if existing is not None:
            return existing, True
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        manifest = Manifest(
            key=key,
            step=step,
            size=sum(memoryview(chunk).nbytes for chunk in chunks),
            sha256=digest.hexdigest(),
            state_digest=state_digest,
            fingerprint=fingerprint,
            chain=chain,
        )
        data = self._layout.data_of(key) + manifest.sha256
        self.blobs.put(data, chunks)
        is_first = self.blobs.put(
            self._layout.manifest(key), encode_manifest(manifest), if_absent=True
        )
        winner = None if is_first else self._find_intact(key)
        if winner is None:
            if not is_first:
                self.blobs.put(self._layout.manifest(key), encode_manifest(manifest))
            if self._cache is not None:
                self._cache.put(manifest.sha256, chunks)
            return manifest, False
        if winner.sha256 != manifest.sha256:
            self.blobs.delete(data)
        return winner, True

    def read_manifest(self, key: str) -> Manifest:
        """Returns a manifest.

        Raises CorruptCheckpoint if it is missing, unreadable, or another key's.
        """
        try:
            data = fetch(self.blobs, self._layout.manifest(key), Kind.MANIFEST)
            manifest = decode_manifest(data, f"the manifest of checkpoint {key}")
        except MissingBlob:
            raise CorruptCheckpoint(f"checkpoint {key}: its manifest is missing") from None
        except Unreadable as error:
            raise CorruptCheckpoint(str(error)) from None
        if manifest.key != key:
            raise CorruptCheckpoint(f"checkpoint {key}: its manifest is that of {manifest.key}")
        return manifest

    def read_checkpoint(self, manifest: Manifest) -> bytes:
        """Returns the checkpoint's data, verified. Raises CorruptCheckpoint."""
        name = self._data_name(manifest)
        if self._cache is not None:
            cached = self._cache.get(manifest.sha256, manifest.size)
            if cached is not None:
                return cached
        try:
            data = self.blobs.get(name, at_most=manifest.size)
        except MissingBlob:
            raise CorruptCheckpoint(f"checkpoint {manifest.key}: its data is missing") from None
        except Unreadable as error:
            raise CorruptCheckpoint(f"checkpoint {manifest.key}: {error}") from None
        _verify(manifest, len(data), hashlib.sha256(data).hexdigest())
        if self._cache is not None:
            self._cache.put(manifest.sha256, [data])
        return data

    def delete_checkpoint(self, key: str) -> None:
        """Deletes a checkpoint, or data that never got a manifest. Idempotent."""
        self.blobs.delete(self._layout.manifest(key))
        start = self._layout.data_of(key)
        for info in self.blobs.list(start):
            self.blobs.delete(info.name)
            if self._cache is not None:
                self._cache.drop(info.name.removeprefix(start))

    def remove_fragments(self) -> None:
        """Removes data without a manifest, left by killed writers. No writer may be active.

        Takes two LISTs, however much there is. Raises StoreError.
        """
        start = self._layout.manifests
        known = {info.name[len(start) : -len(".json")] for info in self.blobs.list(start)}
        start = self._layout.data
        keys = {info.name[len(start) :].partition("/")[0] for info in self.blobs.list(start)}
        for key in sorted(keys - known):
            self.delete_checkpoint(key)

    # Reports and controls of chains

    def write_report(self, report: Report) -> None:
        """Writes a report. Idempotent. Raises StoreError if this number has another report."""
        name = self._layout.report(report.chain, report.sequence_number)
        data = encode(report, Kind.REPORT)
        if not self._is_first(name, data):
            raise StoreError(
                f"report {report.sequence_number} of chain {report.chain} exists already and says"
                " otherwise: two workers run under one name"
            )

    def bar(self, chain: str) -> bool:
        """Bars a chain from starting; returns False if it has started.

        The first report of a chain decides: a worker that finds another one in its place exits
        before it trains. Raises StoreError.
        """
        report = build_bar(chain)
        name = self._layout.report(chain, report.sequence_number)
        return self._is_first(name, encode(report, Kind.REPORT))

    def _is_first(self, name: str, data: bytes) -> bool:
        """Writes a report; returns False if another one has this name."""
        if self.blobs.put(name, data, if_absent=True):
            return True
        try:
            return fetch(self.blobs, name, Kind.REPORT) == data
        except Unreadable:
            return False

    def read_reports(self, chain: str, after: int = -1) -> list[Report]:
        """Returns the reports from ``after + 1`` on, up to the first that does not exist yet.

        Cheap to poll: without news it costs one failed read. Raises StoreError if one is damaged.
        """
        reports: list[Report] = []
        with contextlib.suppress(MissingBlob):
            while True:
                reports.append(self._read_report(chain, after + 1 + len(reports)))
        return reports

    def read_news(self, read: Mapping[str, int]) -> list[Report]:
        """Returns new reports of chains; ``read`` is the number of known reports by chain.

        For drivers that workers cannot call: one LIST for all chains, and one read per new report.
        The reports of a chain are in order, up to the first that does not exist yet.
        """
        if not read:
            return []
        first = min(read)
        after = self._layout.reports_of(first)
        if read[first]:
            after = self._layout.report(first, read[first] - 1)
        names = {info.name for info in self.blobs.list(self._layout.reports, after=after)}
        found: list[tuple[str, int]] = []
        for chain, number in sorted(read.items()):
            while self._layout.report(chain, number) in names:
                found.append((chain, number))
                number += 1
        return list(
            map_together(
                lambda item: self._read_report(*item), found, is_remote=self.blobs.is_remote
            )
        )

    def _read_report(self, chain: str, number: int) -> Report:
        data = fetch(self.blobs, self._layout.report(chain, number), Kind.REPORT)
        return loading.decode_report(data, chain, number)

    def write_control(self, control: Control) -> None:
        self.blobs.put(self._layout.control(control.chain), encode(control, Kind.CONTROL))

    def read_control(self, chain: str) -> Control | None:
        """Returns the newest control; None if there is none. Cheap to poll. Raises StoreError."""
        try:
            data = fetch(self.blobs, self._layout.control(chain), Kind.CONTROL)
        except MissingBlob:
            return None
        return decode(Control.model_validate_json, data, f"the control of chain {chain}")

    # Studies and their decisions

    def write_decision(self, study: str, decision: Decision) -> None:
        """Writes a decision. Idempotent. Raises StoreError if another decision has this index."""
        name = self._layout.decision(study, decision.index)
        data = encode(decision, Kind.DECISION)
        if self.blobs.put(name, data, if_absent=True):
            return
        what = f"decision {decision.index} of study {study}"
        found = decode_decision(fetch(self.blobs, name, Kind.DECISION), what)
        if found != Decision.model_validate_json(data):
            raise StoreError(
                f"{what} was made already, and otherwise ({found.kind}, trial {found.trial})"
            )

    def read_decisions(self, study: str) -> list[Decision]:
        """Returns all decisions, in order. Raises StoreError; Unreadable if one is missing, damaged
        or about an unknown trial, since none is ever made again.
        """
        return loading.read_decisions(self.blobs, self._layout, study)

    def write_study(self, name: str, document: dict[str, Any]) -> None:
        """Writes a study's document, replacing an earlier one."""
        self.blobs.put(self._layout.study(name), encode(StudyRecord(document=document), Kind.STUDY))

    def read_study(self, name: str) -> dict[str, Any]:
        """Returns a study's document. Raises MissingBlob, StoreError."""
        path = self._layout.study(name)
        try:
            data = fetch(self.blobs, path, Kind.STUDY)
            what = f"study {name} in the store"
            document = decode(StudyRecord.model_validate_json, data, what).document
            written = document["study"]["metadata"]["name"]
            if written != name:
                raise Unreadable(f"{what} cannot be read: it is the study {written}")
        except Unreadable as error:
            raise Unreadable(f"{error} ({path})") from None
        return document

    def delete_study(self, name: str) -> None:
        """Deletes a study, its decisions and its mailbox; its results stay. Idempotent.

        The last decision goes first, so that the rest after a crash is still in order. The document
        goes last, so that the study is still found.
        """
        layout = self._layout
        for prefix in (layout.requests_of(name), layout.answers_of(name)):
            for info in reversed(self.blobs.list(prefix)):
                self.blobs.delete(info.name)
        for info in reversed(self.blobs.list(self._layout.decisions_of(name))):
            self.blobs.delete(info.name)
        self.blobs.delete(self._layout.study(name))

    def list_studies(self) -> list[str]:
        """Returns the names of stored studies, sorted.

        Raises Unreadable if their records are too much to hold at once; StoreError.
        """
        start, end = self._layout.studies, "/study.json"
        infos = [(self._layout.kind_of(i.name), i) for i in self.blobs.list(start)]
        Held(f"plan {self.plan}").add(i.size for kind, i in infos if kind in _HELD)
        names = [info.name for kind, info in infos if kind is Kind.STUDY]
        return sorted(name[len(start) : -len(end)] for name in names)

    def write_spending(self, spending: Spending) -> None:
        """Writes the spending, replacing the previous one."""
        self.blobs.put(self._layout.spending, encode(spending, Kind.SPENDING))

    def read_spending(self) -> Spending | None:
        """Returns the spending; None if missing or damaged: reports suffice. Raises StoreError."""
        try:
            data = fetch(self.blobs, self._layout.spending, Kind.SPENDING)
            return decode(Spending.model_validate_json, data, self._layout.spending)
        except (MissingBlob, Unreadable):
            return None

    # The whole plan

    def check_formats(self) -> None:
        """Raises NewerFormat if a newer Hippo wrote a record that ``load`` does not read.

        Skips damaged records. Raises StoreError.
        """
        loading.check_formats(self.blobs, self._layout)

    def load(self) -> PlanRecords:
        """Returns everything computed so far. Raises Unreadable if it is too much; StoreError."""
        return loading.load(self.blobs, self._layout)

    def fold(self, chains: Iterable[str]) -> None:
        """Moves reports of chains that have ended into the ledger, so that loading reads few blobs.

        A chain with a damaged or missing report is left alone. Idempotent; if killed half-way,
        nothing is lost and ``load`` sees no report twice. Deletes the controls of these chains.
        """
        ledger.fold(self.blobs, self._layout, chains)

    def remove(self, before_each: Callable[[], None] = lambda: None) -> None:
        """Deletes everything but the lock. Idempotent.

        ``before_each`` is called before each deletion, to renew the lock. Names are deleted in
        reverse order, so that whatever remains after a crash is a valid plan: studies go before
        their decisions, later decisions and reports before earlier ones, manifests before data.
        """
        layout = self._layout
        for info in reversed(self.blobs.list(layout.everything)):
            if not info.name.startswith(layout.locks):
                before_each()
                self.blobs.delete(info.name)

    def _find_intact(self, key: str) -> Manifest | None:
        """Returns the manifest of an intact checkpoint, its data verified, or None."""
        digest, size = hashlib.sha256(), 0
        try:
            manifest = self.read_manifest(key)
            with self.blobs.stream(self._data_name(manifest)) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
            _verify(manifest, size, digest.hexdigest())
        except (CorruptCheckpoint, MissingBlob):
            return None
        return manifest

    def _data_name(self, manifest: Manifest) -> str:
        if _SHA256.fullmatch(manifest.sha256) is None:
            raise CorruptCheckpoint(f"checkpoint {manifest.key}: its manifest has no SHA-256")
        return self._layout.data_of(manifest.key) + manifest.sha256


def _verify(manifest: Manifest, size: int, sha256: str) -> None:
    if size != manifest.size:
        raise CorruptCheckpoint(
            f"checkpoint {manifest.key}: its data has {size} bytes instead of {manifest.size}"
        )
    if sha256 != manifest.sha256:
        raise CorruptCheckpoint(
            f"checkpoint {manifest.key}: its data was altered (SHA-256 differs)"
        )
