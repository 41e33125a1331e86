"""A plan is read back completely after a restart, folded or not, even after a kill."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from hippo.protocol.assignments import Control, Route
from hippo.protocol.reports import Report
from hippo.store import DirectoryBlobs, NewerFormat, PlanRecords, PlanStore, StoreError
from hippo.store.bounds import MAX_BYTES, Kind
from tests.unit.store.builders import metrics, whole_chain
from tests.unit.store.wrappers import Counting


def write_chains(store: PlanStore, *chains: str, length: int = 4) -> dict[str, list[Report]]:
    reports = {chain: whole_chain(chain, length) for chain in chains}
    for chain in chains:
        for report in reports[chain]:
            store.write_report(report)
    return reports


def test_a_store_without_the_plan_is_empty(store: PlanStore, folder: Path) -> None:
    assert store.load() == PlanRecords()
    store.fold(["c1"])
    assert not folder.parent.exists()


def test_folding_changes_nothing_but_the_number_of_blobs(store: PlanStore, folder: Path) -> None:
    expected = write_chains(store, "c2", "c1", "c3")
    assert store.load().reports == expected
    assert list(store.load().reports) == ["c1", "c2", "c3"]
    assert store.load().unfolded == {"c1", "c2", "c3"}
    store.fold(["c3", "c1"])
    for _ in range(2):
        records = store.load()
        assert records.reports == expected
        assert list(records.reports) == ["c1", "c2", "c3"]
        assert records.unfolded == {"c2"}
        assert records.problems == ()
        store.fold(["c3", "c1", "never"])
    assert [path.name for path in (folder / "reports").iterdir()] == ["c2"]
    assert [path.name for path in (folder / "ledger").iterdir()] == ["000000.json"]
    store.fold(["c2"])
    assert store.load().reports == expected
    assert len(list((folder / "ledger").iterdir())) == 2


def test_chunks_of_the_ledger_are_far_smaller_than_what_is_read(
    store: PlanStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hippo.store.ledger.FOLDED_BYTES", 3_000)
    monkeypatch.setitem(MAX_BYTES, Kind.LEDGER, 12_000)
    expected = write_chains(store, *(f"c{number}" for number in range(1, 9)))
    expected |= write_chains(store, "long", length=50)
    store.fold(expected)
    sizes = [path.stat().st_size for path in (folder / "ledger").iterdir()]
    assert len(sizes) > 1
    assert max(sizes) < 12_000
    records = store.load()
    assert records.reports == expected
    assert records.unfolded == {"long"}, "its reports are more than a chunk may hold"


def test_folding_removes_controls(store: PlanStore) -> None:
    write_chains(store, "c1")
    route = Route(hyperparameters={}, steps=1, stop_at=1)
    for chain in ("c1", "c2"):
        store.write_control(Control(chain=chain, version=1, route=route))
    store.fold(["c1"])
    assert store.read_control("c1") is None
    assert store.read_control("c2") is not None


class DyingBlobs(DirectoryBlobs):
    """Fails permanently after a number of changes, like a process that is killed there."""

    left = 0

    def put(self, name, chunks, *, if_absent=False):  # type: ignore[no-untyped-def]
        self._live()
        return super().put(name, chunks, if_absent=if_absent)

    def delete(self, name: str) -> None:
        self._live()
        super().delete(name)

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise StoreError("killed")


def test_killed_anywhere_while_folding_nothing_is_lost_nor_doubled(folder: Path) -> None:
    blobs, dying = DirectoryBlobs(folder.parent), DyingBlobs(folder.parent)
    changes = 1 + 2 * (3 + 1)  # a chunk; three reports and the control of each chain
    for survived in range(changes + 1):
        store = PlanStore(blobs, f"plan-{survived}")
        expected = write_chains(store, "c1", "c2", length=3)
        dying.left = survived
        with contextlib.suppress(StoreError):
            PlanStore(dying, store.plan).fold(expected)
            assert survived == changes
        for _ in range(2):
            records = store.load()
            assert records.reports == expected
            assert records.problems == ()
            store.fold(records.unfolded)
        assert store.load().unfolded == frozenset()


def test_reports_after_a_fold_still_load(store: PlanStore) -> None:
    expected = write_chains(store, "c1")
    store.fold(["c1"])
    late = metrics("c1", 4)
    store.write_report(late)
    for _ in range(2):
        records = store.load()
        assert records.reports == {"c1": [*expected["c1"], late]}
        assert records.problems == ()
        store.fold(["c1"])


def test_chunks_are_limited(
    store: PlanStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hippo.store.ledger._CHUNK", 8)
    expected = write_chains(store, "c1", "c2", "c3", "c4", "c5")
    store.fold(expected)
    assert len(list((folder / "ledger").iterdir())) == 3
    assert store.load().reports == expected


def test_two_who_fold_at_once_use_two_chunks(store: PlanStore, folder: Path) -> None:
    class Rival(DirectoryBlobs):
        raced = False

        def put(self, name, chunks, *, if_absent=False):  # type: ignore[no-untyped-def]
            if not self.raced:
                self.raced = True
                store.fold(["c2"])
            return super().put(name, chunks, if_absent=if_absent)

    expected = write_chains(store, "c1", "c2")
    PlanStore(Rival(folder.parent), "plan").fold(["c1"])
    assert len(list((folder / "ledger").iterdir())) == 2
    assert store.load().reports == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "report 2 of chain c1 cannot be read"),
        (b'{"kind":"metrics","chain":"c', "report 2 of chain c1 cannot be read"),
        (b"\xff\xfe\x00", "report 2 of chain c1 cannot be read"),
        (b'{"kind":"unheard-of"}', "report 2 of chain c1 cannot be read"),
        (b"[" * 100_000, "report 2 of chain c1 cannot be read"),
        (metrics("c1", 1).model_dump_json().encode(), "is report 1 of chain c1"),
        (metrics("c9", 2).model_dump_json().encode(), "is report 2 of chain c9"),
        (
            metrics("c1", 2).model_dump_json().replace('Version":1', 'Version":0').encode(),
            "format 0 is unknown",
        ),
    ],
)
def test_damaged_reports_are_skipped_named_and_kept(
    store: PlanStore, folder: Path, content: bytes, message: str
) -> None:
    expected = write_chains(store, "c1", "c2")
    damaged = folder / "reports/c1/000002.json"
    damaged.write_bytes(content)
    for _ in range(2):
        records = store.load()
        assert records.reports["c2"] == expected["c2"]
        assert records.reports["c1"] == [expected["c1"][number] for number in (0, 1, 3)]
        assert any(message in problem for problem in records.problems)
        assert all("\n" not in problem for problem in records.problems)
        store.fold(["c1", "c2"])
    assert damaged.read_bytes() == content
    assert store.load().unfolded == {"c1"}


def test_a_missing_report_is_a_problem(store: PlanStore, folder: Path) -> None:
    expected = write_chains(store, "c1")
    (folder / "reports/c1/000001.json").unlink()
    records = store.load()
    assert records.reports == {"c1": [expected["c1"][number] for number in (0, 2, 3)]}
    assert records.problems == ("report 1 of chain c1 is missing, though later ones exist",)


def test_a_damaged_chunk_is_a_problem(store: PlanStore, folder: Path) -> None:
    expected = write_chains(store, "c1", "c2")
    for chain in expected:
        store.fold([chain])
    (folder / "ledger/000000.json").write_bytes(b'{"chains":')
    records = store.load()
    assert records.reports == {"c2": expected["c2"]}
    (problem,) = records.problems
    assert "ledger/000000.json cannot be read" in problem


def test_a_newer_report_in_the_ledger_stops(store: PlanStore, folder: Path) -> None:
    write_chains(store, "c1")
    store.fold(["c1"])
    path = folder / "ledger/000000.json"
    document = json.loads(path.read_text())
    document["chains"]["c1"][1]["formatVersion"] = 2
    path.write_text(json.dumps(document))
    with pytest.raises(NewerFormat, match="newer Hippo"):
        store.load()


def test_every_report_is_read_once(folder: Path) -> None:
    blobs = Counting(DirectoryBlobs(folder.parent))
    for chain in range(40):
        target = folder / f"reports/c{chain}"
        target.mkdir(parents=True)
        for number in range(50):
            data = metrics(f"c{chain}", number).model_dump_json()
            (target / f"{number:06d}.json").write_text(data)
    records = PlanStore(blobs, "plan").load()  # type: ignore[arg-type]
    assert sum(map(len, records.reports.values())) == 2000
    assert blobs.calls.count("get") <= 2000 + 5
    assert blobs.calls.count("list") <= 5
