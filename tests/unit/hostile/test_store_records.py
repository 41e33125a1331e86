"""A record of one namespace, whatever is in it, keeps no other from being listed and cleaned up.

Beside a plan of each kind of record, one of them spoilt, lies another namespace. It is listed,
swept and collected as if it were alone.
"""

from __future__ import annotations

import functools
import io
import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from hippo.cli.render import store_tables
from hippo.gc import Swept, collect, list_store
from hippo.kube.controller.store_gc import sweep_store
from hippo.kube.settings import build_holder
from hippo.protocol.assignments import Control, Route
from hippo.protocol.decisions import Decision
from hippo.protocol.records import Spending, Spent
from hippo.protocol.requests import Close, Over, Promote, Reached, Stop, Suggest, Taken
from hippo.store import NewerFormat, PlanLock, PlanStore, Unreadable
from hippo.store.bounds import MAX_BYTES, Kind
from hippo.store.encoding import fetch
from hippo.store.layout import Layout
from hippo.store.mailbox import Mailbox
from tests.model_checking.store import MemoryBlobs
from tests.unit.gc.stored import STEPS, StoredPlan
from tests.unit.hostile.values import NASTY, deep, places, put, spoil_bytes

NIGHTLY = os.environ.get("HIPPO_TEST_PROFILE") == "nightly"
pytestmark = pytest.mark.usefixtures("quiet")

STORED = sorted(set(Kind) - {Kind.ASSIGNMENT, Kind.STAMP})
"""Of a plan."""
NOW = 1_900_000_000.0
ONE, TWO, THREE = {"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}

Stored = dict[str, bytes]


def fill(stored: Stored, namespace: str, uid: str) -> str:
    """A plan with every kind of record; its path."""
    blobs = MemoryBlobs(stored)
    plan = StoredPlan(blobs, namespace)
    store = plan.store
    plan.add_study("s", ONE, TWO, best=plan.add_checkpoint(ONE, STEPS), retain="all")
    store.write_study("s", {**store.read_study("s"), "uid": uid})
    for index, kind in enumerate(("fail", "reopen", "stop"), 2):
        version = 2 if kind == "reopen" else 1
        fields = {"index": index, "kind": kind, "trial": 1, "steps": 6, "reason": "r"}
        store.write_decision("s", Decision.model_validate({**fields, "formatVersion": version}))
    plan.add_checkpoint(TWO, 6, chain="c2")
    plan.add_checkpoint(THREE, 3)  # wanted by nobody
    store.fold([plan.add_chain(ONE, "s")])
    running = plan.add_chain(TWO, "s", ended=False)
    route = Route(hyperparameters=TWO, steps=STEPS, stop_at=STEPS, save_at=(6,), evaluate_at=(6,))
    store.write_control(Control(chain=running, version=1, route=route, standing=route))
    store.write_spending(Spending(generation=1, counted={running: 1}, studies={"s": Spent()}))
    mailbox = Mailbox(blobs, store.plan, "s")
    mailbox.post(Suggest(hyperparameters=ONE, steps=6))
    mailbox.post(Promote(trial=0, steps=9))
    mailbox.post(Stop(trial=0))
    mailbox.post(Close())
    mailbox.answer(Taken(request=0, name="s-0"))
    mailbox.answer(Reached(trial=0, step=6, metrics={"score": 1.0}))
    mailbox.answer(Over(trial=0, phase="Completed", reason="r"))
    lock = PlanLock(store)
    lock.acquire()
    lock.release()
    return store.plan


def build() -> tuple[Stored, str, str]:
    """What is stored, and the paths of the plan that is to be spoilt and of the sound one."""
    stored, spoilt, sound = _build()
    return dict(stored), spoilt, sound


@functools.cache
def _build() -> tuple[Stored, str, str]:
    stored: Stored = {}
    return stored, fill(stored, "aa", "uid-a"), fill(stored, "bb", "uid-b")


@functools.cache
def act_alone(way: str) -> tuple[Any, Stored]:
    """What is said of the sound plan if it has the store for itself, and what is left of it."""
    stored, _, sound = build()
    alone = {name: data for name, data in stored.items() if name.startswith(f"{sound}/")}
    return told_of(WAYS[way](MemoryBlobs(alone), NOW), sound), strip_locks(alone, sound)


def by_kind(stored: Stored, plan: str) -> dict[Kind, list[str]]:
    layout = Layout(plan)
    found: dict[Kind, list[str]] = {}
    for name in sorted(stored):
        kind = layout.kind_of(name) if name.startswith(f"{plan}/") else None
        if kind is not None:
            found.setdefault(kind, []).append(name)
    return found


def is_json(data: bytes) -> bool:
    try:
        json.loads(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return True


def remake(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """The first line, which is the record, changed; of a manifest its seal fits no more."""
    return json.dumps(change(json.loads(data.partition(b"\n")[0]))).encode()


def spoil(stored: Stored, plan: str, dice: random.Random) -> None:
    """Change one record of a plan, or its name."""
    records = by_kind(stored, plan)
    name = dice.choice(records[dice.choice(sorted(records))])
    data = stored[name]
    folder = name.rpartition("/")[0]
    match dice.randrange(8) if data[:1] == b"{" and is_json(data) else 0:
        case 0 | 1 | 2:
            stored[name] = spoil_bytes(data, dice)
        case 3:
            document = json.loads(data.partition(b"\n")[0])
            path = dice.choice(places(document))
            value = dice.choice([*NASTY, deep(100), deep(300), {}, [[]], 1e300, -1e300, 2**63])
            stored[name] = json.dumps(put(document, path, value)).encode()
        case 4:  # twice the same key, a number that JSON does not know, a BOM, other encodings
            text = data.partition(b"\n")[0]
            stored[name] = dice.choice(
                [
                    text[:-1] + b',"formatVersion":' + dice.choice([b"99", b"NaN", b"-1"]) + b"}",
                    text.replace(b":1", b":NaN", 1),
                    text.replace(b":1", b":1e999", 1),
                    text.replace(b'"s"', b'"\\ud800"', 1),
                    text.replace(b'"s"', b'"\xff"', 1),
                    b"\xef\xbb\xbf" + text,
                    text.decode().encode("utf-16"),
                ]
            )
        case 5:
            stored[name] = data + b" " * dice.choice([1, 100_000, MAX_BYTES[Kind.REPORT]])
        case 6:
            odd = ["9" * 195, "9" * 9, "9" * 10, "9" * 12, "0" * 8, "0", "-1", "1e3", "x", "1_0"]
            stored[f"{folder}/{dice.choice(odd)}.json"] = data
        case _:
            del stored[name]
            other = dice.choice(records[dice.choice(sorted(records))])
            stored[other] = data


def strip_locks(stored: Stored, plan: str) -> Stored:
    return {n: d for n, d in stored.items() if n.startswith(f"{plan}/") and "/lock/" not in n}


def sweep_all(blobs: MemoryBlobs, now: float) -> list[Swept]:
    del now
    return sweep_store(
        blobs,
        {"uid-a", "uid-b"},
        build_holder("x"),
        namespaces=(),
        is_open=lambda path: False,
        is_known=lambda uid: False,
    )


def list_all(blobs: MemoryBlobs, now: float) -> Any:
    listings = list_store(blobs, now=now)
    store_tables.print_listing(Console(file=io.StringIO(), width=100), listings)
    json.dumps(store_tables.listing_to_json("store", listings))
    for listing in listings:
        assert all("\n" not in problem for problem in listing.problems)
    return listings


WAYS: dict[str, Callable[[MemoryBlobs, float], Any]] = {
    "ls": list_all,
    "gc": lambda blobs, now: collect(blobs, now=now).plans,
    "gc --dry-run": lambda blobs, now: collect(blobs, now=now, dry_run=True).plans,
    "gc --max-bytes": lambda blobs, now: collect(blobs, now=now, max_bytes=0).plans,
    "sweep": sweep_all,
}


def told_of(found: list[Any], plan: str) -> Any:
    """What is said of one plan; sizes of another one make no difference to it."""
    (mine,) = [item for item in found if getattr(item, "plan", None) == plan or _path(item) == plan]
    return mine


def _path(item: Any) -> str:
    return f"{getattr(item, 'namespace', '')}/{getattr(item, 'name', '')}"


def see_that_others_go_on(spoilt: Stored, sound: str) -> None:
    for way, act in WAYS.items():
        expected, left = act_alone(way)
        beside = dict(spoilt)
        found = told_of(act(MemoryBlobs(beside), NOW), sound)
        assert found == expected, way
        assert found.problems == (), way
        assert strip_locks(beside, sound) == left, way


def test_alone_each_says_something() -> None:
    stored, spoilt, sound = build()
    assert sorted(by_kind(stored, spoilt)) == STORED
    for way, act in WAYS.items():
        found = act(MemoryBlobs(dict(stored)), NOW)
        for plan in (spoilt, sound):
            assert told_of(found, plan).problems == (), way
    swept = told_of(collect(MemoryBlobs(stored), now=NOW, max_bytes=0).plans, sound)
    assert (swept.checkpoints, swept.evicted) == (1, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=5_000 if NIGHTLY else 100)
@given(st.integers(0, 2**32))
def test_whatever_a_record_holds_others_go_on(seed: int) -> None:
    dice = random.Random(seed)
    stored, plan, sound = build()
    spoilt = dict(stored)
    for _ in range(dice.choice([1, 1, 1, 2, 5])):
        spoil(spoilt, plan, dice)
    see_that_others_go_on(spoilt, sound)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", STORED)
def test_each_field_with_each_value(kind: Kind) -> None:
    """Nightly all of them, a minute for each kind; else a few."""
    stored, plan, sound = build()
    name = by_kind(stored, plan)[kind][0]
    document = json.loads(stored[name].partition(b"\n")[0])
    wrong = [(path, value) for path in places(document) for value in NASTY]
    for path, value in wrong if NIGHTLY else random.Random(kind).sample(wrong, 3):
        data = json.dumps(put(document, path, value)).encode()
        see_that_others_go_on({**stored, name: data}, sound)


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORED)
def test_a_newer_record_of_any_kind_stops_clean_up_of_its_plan(kind: Kind) -> None:
    stored, plan, sound = build()
    name = by_kind(stored, plan)[kind][-1]
    for newer in (
        b'{"formatVersion":99}',
        remake(stored[name], lambda document: {**document, "formatVersion": 99, "more": [1]}),
    ):
        spoilt = {**stored, name: newer}
        see_that_others_go_on(spoilt, sound)
        for max_bytes in (None, 0):
            after = dict(spoilt)
            found = collect(MemoryBlobs(after), now=NOW, max_bytes=max_bytes)
            assert [swept.plan for swept in found.failed] == [plan]
            assert "newer Hippo (format 99" in found.failed[0].problems[0]
            assert strip_locks(after, plan) == strip_locks(spoilt, plan)
        after = dict(spoilt)
        assert [swept.plan for swept in sweep_all(MemoryBlobs(after), NOW)] == [sound]
        assert strip_locks(after, plan) == strip_locks(spoilt, plan)


def test_a_newer_report_within_the_ledger_stops_it_too() -> None:
    stored, plan, _ = build()
    name = by_kind(stored, plan)[Kind.LEDGER][0]

    def renew(document: Any) -> Any:
        (reports,) = document["chains"].values()
        reports[0] |= {"formatVersion": 99, "kind": "unheard-of"}
        return document

    stored[name] = remake(stored[name], renew)
    with pytest.raises(NewerFormat):
        PlanStore(MemoryBlobs(stored), plan).load()


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORED)
def test_what_is_too_large_is_not_asked_for(kind: Kind) -> None:
    """Not even what the store lists as small, and has grown since."""

    class Watched(MemoryBlobs):
        def get(self, name: str, *, at_most: int | None = None) -> bytes:
            assert at_most is not None or "/data/" in name, name
            return super().get(name, at_most=at_most)

    stored, plan, sound = build()
    name = by_kind(stored, plan)[kind][0]
    spoilt = {**stored, name: stored[name] + b" " * MAX_BYTES[kind]}
    see_that_others_go_on(spoilt, sound)
    list_store(Watched(dict(spoilt)), now=NOW)
    collect(Watched(dict(spoilt)), now=NOW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("filling", [b"[],", b"[[", b"1,", b'{"":{'])
def test_what_holds_too_many_values_is_not_decoded(kind: Kind, filling: bytes) -> None:
    """Decoded, it would take many times its size."""
    stored, plan, sound = build()
    name = by_kind(stored, plan)[kind][0]
    size = MAX_BYTES[kind] // len(filling) - 10
    spoilt = {**stored, name: b'{"more":[' + filling * size}
    with pytest.raises(Unreadable, match=r"more than .* values"):
        fetch(MemoryBlobs(spoilt), name, kind)
    see_that_others_go_on(spoilt, sound)


@pytest.mark.parametrize("digits", [1, 7, 9, 10, 12, 195])
def test_a_lock_of_many_digits_blocks_no_plan_for_ever(digits: int) -> None:
    stored, plan, _ = build()
    lock = next(n for n in stored if n.startswith(f"{plan}/lock/"))
    stored[f"{plan}/lock/{'9' * digits}.json"] = stored[lock]
    held = PlanLock(PlanStore(MemoryBlobs(stored), plan))
    if digits == 9:  # the greatest that Hippo may come to itself: somebody has to look
        with pytest.raises(Exception, match=r"999999999.json .*: delete it if no other"):
            held.acquire()
    else:
        held.acquire()
        assert held.generation == 2
        held.renew()


def test_requests_and_folded_reports_go_where_they_are_read() -> None:
    """Whatever numbers others have left there."""
    stored, plan, _ = build()
    blobs = MemoryBlobs(stored)
    for number in ("9" * 9, "9" * 12):
        stored[f"{plan}/studies/s/requests/{number}.json"] = b"{}"
        stored[f"{plan}/ledger/{number}.json"] = b"{}"
    mailbox = Mailbox(blobs, plan, "s")
    assert mailbox.post(Close()) == 4
    assert mailbox.count() == 5
    store = PlanStore(blobs, plan)
    before = store.load().reports
    store.fold(before)
    assert store.load().reports == before


@pytest.mark.parametrize("expires", [NOW + 1e6, 9e9])
def test_no_lock_is_held_for_ever(expires: float) -> None:
    stored, plan, _ = build()
    lock = next(n for n in stored if n.startswith(f"{plan}/lock/"))
    far = {"expires": expires, "acquired": time.time(), "host": "elsewhere"}
    stored[lock] = remake(stored[lock], lambda document: {**document, **far})
    found = PlanLock(PlanStore(MemoryBlobs(stored), plan))
    with pytest.raises(Exception, match="does not expire for more than a day: delete it"):
        found.acquire()
