"""Reports, controls, decisions, studies: written once, read in order, refused in conflict."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from hippo.protocol.assignments import Control, Route
from hippo.protocol.decisions import Decision, format_of
from hippo.protocol.records import FORMAT_VERSION
from hippo.protocol.reports import MetricsReported
from hippo.store import BlobInfo, DirectoryBlobs, MissingBlob, NewerFormat, PlanStore, StoreError
from hippo.store.bounds import MAX_BYTES, Kind
from tests.unit.store.builders import metrics, study_document, suggestion, whole_chain
from tests.unit.store.plan_contract import PlanContract

NEWER = (
    r"written by a newer Hippo \(format 2, this one reads up to 1\):"
    " upgrade, or use another --store"
)


def control(version: int, chain: str = "c1") -> Control:
    route = Route(hyperparameters={"lr": 0.1}, steps=100, stop_at=50, save_at=(10, 20))
    return Control(chain=chain, version=version, route=route)


def bump_version(path: Path) -> None:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"formatVersion": 2, "more": "fields"}))


def test_a_plan_belongs_to_one_trainer(store: PlanStore) -> None:
    store.initialise({"entrypoint": "a:B", "config": {"layers": (1, 2.0)}})
    store.initialise({"entrypoint": "a:B", "config": {"layers": [1, 2]}})
    with pytest.raises(StoreError, match="belongs to another trainer: use another --store"):
        store.initialise({"entrypoint": "a:C", "config": {"layers": [1, 2]}})
    assert store.load().signature == {"entrypoint": "a:B", "config": {"layers": [1, 2]}}


def test_a_damaged_plan_is_left_alone(store: PlanStore, folder: Path) -> None:
    store.initialise({})
    (folder / "plan.json").write_text('{"formatVers')
    with pytest.raises(StoreError, match=r"plan plan .* cannot be read: .*restore it"):
        store.initialise({})
    assert (folder / "plan.json").read_text() == '{"formatVers'
    assert len(store.load().problems) == 1


def test_anything_of_a_newer_hippo_stops_with_one_clear_line(
    store: PlanStore, folder: Path
) -> None:
    writes: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "plan.json": (lambda: store.initialise({}), lambda: store.initialise({})),
        "reports/c1/000000.json": (
            lambda: store.write_report(metrics("c1", 0)),
            lambda: store.read_reports("c1"),
        ),
        "control/c1.json": (
            lambda: store.write_control(control(1)),
            lambda: store.read_control("c1"),
        ),
        "studies/s/study.json": (
            lambda: store.write_study("s", study_document()),
            lambda: store.read_study("s"),
        ),
        "studies/s/decisions/000000.json": (
            lambda: store.write_decision("s", suggestion(0)),
            lambda: store.read_decisions("s"),
        ),
    }
    for name, (write, read) in writes.items():
        write()
        read()
        bump_version(folder / name)
        with pytest.raises(NewerFormat, match=NEWER) as error:
            read()
        assert "\n" not in str(error.value)
        if name.startswith(("plan", "reports")):
            with pytest.raises(NewerFormat, match=NEWER):
                store.load()
        (folder / name).unlink()


def test_a_newer_version_counts_even_if_all_else_fits(store: PlanStore, folder: Path) -> None:
    store.write_report(metrics("c1", 0))
    path = folder / "reports/c1/000000.json"
    path.write_text(path.read_text().replace('"formatVersion":1', '"formatVersion":2'))
    with pytest.raises(NewerFormat, match=NEWER):
        store.read_reports("c1")


def test_reports_are_read_up_to_the_first_that_is_missing(store: PlanStore) -> None:
    reports = whole_chain("c1", 6)
    assert store.read_reports("c1") == []
    for report in [*reports[:3], *reports[4:]]:
        store.write_report(report)
    assert store.read_reports("c1") == reports[:3]
    assert store.read_reports("c1", after=1) == reports[2:3]
    assert store.read_reports("c1", after=2) == []
    store.write_report(reports[3])
    assert store.read_reports("c1", after=2) == reports[3:]
    assert store.read_reports("c2") == []


class TestPlanInDirectory(PlanContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


def test_a_report_is_idempotent_and_never_changes(store: PlanStore) -> None:
    store.write_report(metrics("c1", 0, 0.5))
    store.write_report(metrics("c1", 0, 0.5))
    with pytest.raises(StoreError, match="report 0 of chain c1 exists already"):
        store.write_report(metrics("c1", 0, 0.6))
    assert store.read_reports("c1") == [metrics("c1", 0, 0.5)]


def test_non_finite_metrics_survive(store: PlanStore) -> None:
    for number, value in enumerate((math.nan, math.inf, -math.inf, -0.0, 0.1 + 0.2, 5e-324)):
        store.write_report(metrics("c1", number, value))
    values = []
    for report in store.read_reports("c1"):
        assert isinstance(report, MetricsReported)
        values.append(report.metrics["accuracy"])
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, -0.0, 0.1 + 0.2, 5e-324]
    assert math.copysign(1, values[3]) == -1


def test_a_chain_that_was_barred_never_begins(store: PlanStore) -> None:
    assert store.bar("c1") is True
    assert store.bar("c1") is True
    with pytest.raises(StoreError, match="two workers run under one name"):
        store.write_report(whole_chain("c1")[0])
    store.fold(["c1"])
    with pytest.raises(StoreError, match="two workers run under one name"):
        store.write_report(whole_chain("c1")[0])


def test_one_that_has_begun_is_not_barred(store: PlanStore) -> None:
    first = whole_chain("c1")[0]
    store.write_report(first)
    assert store.bar("c1") is False
    assert store.read_reports("c1") == [first]


def test_a_damaged_report_is_named(store: PlanStore, folder: Path) -> None:
    store.write_report(metrics("c1", 0))
    (folder / "reports/c1/000000.json").write_text('{"kind": "metrics", "chain"')
    with pytest.raises(StoreError, match=r"report 0 of chain c1 cannot be read: .*JSON"):
        store.read_reports("c1")


class CountingBlobs(DirectoryBlobs):
    calls = 0

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        self.calls += 1
        return super().get(name, at_most=at_most)

    def list(self, prefix: str) -> list[BlobInfo]:
        raise AssertionError("polling must not list")


def test_polling_without_news_is_one_read(folder: Path) -> None:
    blobs = CountingBlobs(folder.parent)
    store = PlanStore(blobs, "plan")
    store.write_report(metrics("c1", 0))
    blobs.calls = 0
    assert store.read_reports("c1", after=0) == []
    assert blobs.calls == 1
    assert store.read_control("c1") is None
    assert blobs.calls == 2


def test_the_newest_control_stands(store: PlanStore) -> None:
    assert store.read_control("c1") is None
    for version in (1, 2):
        store.write_control(control(version))
    assert store.read_control("c1") == control(2)
    assert store.read_control("c2") is None


def test_decisions_are_made_once(store: PlanStore) -> None:
    assert store.read_decisions("s") == []
    first = suggestion(0, lr={"piecewise": [[0, 0.1], [5, 1]]}, nesterov=True, batch_size=64)
    second = Decision(index=1, kind="stop", trial=0, steps=5, reason="worse than the median")
    for decision in (first, second, first):
        store.write_decision("s", decision)
    assert store.read_decisions("s") == [first, second]
    with pytest.raises(StoreError, match=r"decision 1 of study s was made already, and otherwise"):
        store.write_decision("s", suggestion(1))
    assert store.read_decisions("s") == [first, second]
    assert store.read_decisions("another") == []


def test_tuples_in_a_decision_are_lists_once_stored(store: PlanStore) -> None:
    decision = suggestion(0, lr=(1, 2))
    store.write_decision("s", decision)
    store.write_decision("s", decision)
    assert store.read_decisions("s") == [suggestion(0, lr=[1, 2])]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "000001.json").unlink(), "decision 1 of study s is missing"),
        (
            lambda folder: (folder / "000001.json").write_text("{"),
            r"decision 1 of study s \(.*\) cannot be read",
        ),
        (
            lambda folder: (folder / "000001.json").write_bytes(
                (folder / "000002.json").read_bytes()
            ),
            r"decision 1 of study s \(.*\) is decision 2",
        ),
    ],
)
def test_no_decision_may_be_lost(
    store: PlanStore, folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    for index in range(3):
        store.write_decision("s", suggestion(index))
    damage(folder / "studies/s/decisions")
    with pytest.raises(StoreError, match=f"{message}.*: restore it from a backup, or delete"):
        store.read_decisions("s")


def test_studies_are_listed_by_name(store: PlanStore) -> None:
    assert store.list_studies() == []
    store.write_study("b", study_document("b", steps=1))
    store.write_study("a", study_document("a"))
    store.write_study("b", study_document("b", steps=2))
    store.write_decision("not-written", suggestion(0))
    assert store.list_studies() == ["a", "b"]
    assert store.read_study("b") == study_document("b", steps=2)
    with pytest.raises(MissingBlob):
        store.read_study("c")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".a", "a b"])
def test_names_that_would_leave_their_place_are_refused(store: PlanStore, name: str) -> None:
    for call in (
        lambda: store.read_manifest(name),
        lambda: store.delete_checkpoint(name),
        lambda: store.read_reports(name),
        lambda: store.read_control(name),
        lambda: store.read_decisions(name),
        lambda: store.read_study(name),
        lambda: store.fold([name]),
    ):
        with pytest.raises(ValueError, match="not usable within a blob name"):
            call()
    with pytest.raises(ValueError, match="not a blob name"):
        PlanStore(store.blobs, name.replace("a/b", "a//b"))


def test_data_without_a_manifest_is_removed(store: PlanStore) -> None:
    def write(key: str) -> None:
        store.write_checkpoint(
            key=key, step=1, chunks=[b"x"], state_digest="d", fingerprint={}, chain="c"
        )

    write("whole")
    write("killed")
    store.blobs.delete(f"{store.plan}/manifests/killed.json")
    assert store.load().orphans == {"killed"}
    store.remove_fragments()
    records = store.load()
    assert not records.orphans
    assert set(records.manifests) == {"whole"}


def test_two_plans_in_one_store_do_not_meet(store: PlanStore) -> None:
    other = PlanStore(store.blobs, "plan-2")
    other.write_report(metrics("c1", 0))
    other.write_study("s", study_document())
    assert store.load().reports == {}
    assert store.list_studies() == []
    assert list(other.load().reports) == ["c1"]


def test_only_what_an_older_hippo_cannot_read_is_of_a_greater_version(
    store: PlanStore, folder: Path
) -> None:
    reopened = Decision(
        format_version=format_of("reopen"),
        index=1,
        kind="reopen",
        trial=0,
        steps=12,
        reason="tried again",
    )
    for decision in (suggestion(0), reopened):
        store.write_decision("s", decision)
    written = sorted((folder / "studies/s/decisions").glob("*.json"))
    versions = [json.loads(path.read_text())["formatVersion"] for path in written]
    assert versions == [FORMAT_VERSION, FORMAT_VERSION + 1]
    assert store.read_decisions("s") == [suggestion(0), reopened]
    written[0].write_text(written[0].read_text().replace('"formatVersion":1', '"formatVersion":2'))
    with pytest.raises(NewerFormat, match=NEWER):
        store.read_decisions("s")


def test_what_could_not_be_read_again_is_not_written(store: PlanStore, folder: Path) -> None:
    for written in ("x" * MAX_BYTES[Kind.DECISION], list(range(600_000))):
        with pytest.raises(StoreError, match="a decision cannot be stored: it has"):
            store.write_decision("s", suggestion(0, lr=written))
    assert not folder.exists()
