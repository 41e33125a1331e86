"""The lock: held while its holder lives, free at once after kill -9, never held by two."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hippo.store import (
    BlobInfo,
    Holder,
    LockHeld,
    LockLost,
    NewerFormat,
    PlanLock,
    PlanStore,
    StoreError,
    open_blobs,
)
from tests.unit.store import processes
from tests.unit.store.wrappers import Passing

HOLD = """
import sys
from hippo.store import PlanLock, PlanStore, open_blobs
PlanLock(PlanStore(open_blobs(sys.argv[1]), "plan"), seconds=3600).acquire()
print("held", flush=True)
sys.stdin.readline()
"""

COMPETE = """
import sys
from hippo.store import LockHeld, PlanLock, PlanStore, open_blobs
lock = PlanLock(PlanStore(open_blobs(sys.argv[1]), "plan"))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(30):
    try:
        with lock:
            # Only the holder touches this; two at once would find it there.
            marker = open(sys.argv[2], "x")
            marker.close()
            lock.renew()
            __import__("os").unlink(sys.argv[2])
        print("held", flush=True)
    except LockHeld:
        pass
"""


FIRST = "plan/lock/00000001.json"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def elsewhere(number: int = 1) -> Holder:
    """Returns a holder on another machine, whose process cannot be checked from here."""
    return Holder(f"host-{number}", "boot", 4711, "99", f"hippo run study-{number}.yaml")


def lock_of(store: PlanStore, clock: Clock, number: int = 1) -> PlanLock:
    return PlanLock(store, elsewhere(number), seconds=60, clock=clock)


def generations(store: PlanStore) -> list[str]:
    return [info.name.rpartition("/")[2] for info in store.blobs.list("plan/lock/")]


class LockContract:
    """The contract of locks in any store; a subclass has the fixture ``url``."""

    @pytest.fixture
    def store(self, url: str) -> PlanStore:
        return PlanStore(open_blobs(url), "plan")

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    def test_a_second_driver_is_told_who_holds_it(self, store: PlanStore, clock: Clock) -> None:
        lock_of(store, clock).acquire()
        clock.now += 59
        with pytest.raises(LockHeld) as error:
            lock_of(store, clock, 2).acquire()
        line = str(error.value)
        assert "plan plan is in use by another hippo on host host-1: pid 4711" in line
        assert "`hippo run study-1.yaml`, since 1970-01-12 " in line
        assert line.endswith("wait for it, stop it, or use another store")
        assert "\n" not in line

    def test_it_expires(self, store: PlanStore, clock: Clock) -> None:
        first, second = lock_of(store, clock), lock_of(store, clock, 2)
        first.acquire()
        clock.now += 60
        second.acquire()
        assert generations(store) == ["00000002.json"]
        with pytest.raises(LockLost, match=r"taken over by host host-2, pid 4711, .* for 60 s"):
            first.renew()
        assert generations(store) == ["00000002.json"], "a late renewal leaves nothing behind"
        second.renew()
        first.release()
        with pytest.raises(LockLost, match="is not held"):
            first.renew()
        with pytest.raises(LockHeld, match="host-2"):
            first.acquire()

    def test_renewing_keeps_it(self, store: PlanStore, clock: Clock) -> None:
        lock = lock_of(store, clock)
        lock.acquire()
        for _ in range(5):
            clock.now += 50
            lock.renew()
            with pytest.raises(LockHeld, match="since 1970-01-12"):
                lock_of(store, clock, 2).acquire()

    def test_a_late_renewal_counts_if_nobody_took_over(
        self, store: PlanStore, clock: Clock
    ) -> None:
        lock = lock_of(store, clock)
        lock.acquire()
        clock.now += 500
        lock.renew()
        with pytest.raises(LockHeld):
            lock_of(store, clock, 2).acquire()

    def test_release_frees_it_and_its_number_is_never_used_again(
        self, store: PlanStore, clock: Clock
    ) -> None:
        for number in range(1, 4):
            with lock_of(store, clock, number):
                assert generations(store) == [f"{number:08d}.json"]
            assert generations(store) == [f"{number:08d}.json"]

    def test_it_can_be_greater_than_a_number_known_from_elsewhere(
        self, store: PlanStore, clock: Clock
    ) -> None:
        lock = lock_of(store, clock, 1)
        for above, generation in ((7, 8), (3, 9)):
            lock.acquire(above=above)
            assert lock.generation == generation
            lock.renew()
            lock.release()

    def test_who_could_not_release_it_need_not_wait_for_himself(
        self, store: PlanStore, clock: Clock
    ) -> None:
        mine = PlanLock(store, clock=clock)
        mine.acquire()
        again = PlanLock(store, clock=clock)
        with pytest.raises(LockHeld):
            again.acquire()  # it might be used by another thread
        again.acquire(own={mine.generation})
        assert again.generation == mine.generation + 1
        with pytest.raises(LockLost):
            mine.renew()
        again.renew()
        with pytest.raises(LockHeld):  # somebody else's by now
            PlanLock(store, clock=clock).acquire(own={1})

    def test_release_is_idempotent_and_harmless_once_lost(
        self, store: PlanStore, clock: Clock
    ) -> None:
        first = lock_of(store, clock)
        first.release()
        first.acquire()
        clock.now += 60
        second = lock_of(store, clock, 2)
        second.acquire()
        first.release()
        first.release()
        second.renew()

    def test_it_can_be_seen_to_be_free_without_taking_it(
        self, store: PlanStore, clock: Clock
    ) -> None:
        lock_of(store, clock).check()
        assert generations(store) == []
        held = lock_of(store, clock)
        held.acquire()
        with pytest.raises(LockHeld) as error:
            lock_of(store, clock, 2).check()
        assert error.value.by.startswith("in use by another hippo on host host-1")
        held.release()
        lock_of(store, clock, 2).check()

    def test_long_work_renews_it_in_time(self, store: PlanStore, clock: Clock) -> None:
        held = lock_of(store, clock)
        held.acquire()
        for _ in range(20):
            clock.now += 15
            held.renew_if_due()
            with pytest.raises(LockHeld):
                lock_of(store, clock, 2).acquire()

    def test_it_goes_with_its_plan(self, store: PlanStore, clock: Clock) -> None:
        held = lock_of(store, clock)
        held.acquire()
        held.remove()
        held.release()
        assert generations(store) == []
        late, next_one = lock_of(store, clock), lock_of(store, clock, 2)
        late.acquire()
        clock.now += 61
        next_one.acquire()
        late.remove()  # it is not its own any more
        with pytest.raises(LockHeld):
            lock_of(store, clock).acquire()

    def test_an_exception_releases_it(self, store: PlanStore, clock: Clock) -> None:
        with pytest.raises(KeyError), lock_of(store, clock):
            raise KeyError
        lock_of(store, clock, 2).acquire()

    def test_of_two_who_see_it_free_one_gets_it(self, store: PlanStore, clock: Clock) -> None:
        class Rival(Passing):
            raced = False

            def put(self, name, chunks, *, if_absent=False):  # type: ignore[no-untyped-def]
                if not self.raced:
                    self.raced = True
                    lock_of(store, clock, 2).acquire()
                return self.blobs.put(name, chunks, if_absent=if_absent)

        with pytest.raises(LockHeld, match="host-2"):
            lock_of(PlanStore(Rival(store.blobs), "plan"), clock).acquire()
        lock_of(store, clock, 2)

    def test_a_slow_one_does_not_get_a_number_that_was_used_and_removed(
        self, store: PlanStore, clock: Clock
    ) -> None:
        class Slow(Passing):
            raced = False

            def put(self, name, chunks, *, if_absent=False):  # type: ignore[no-untyped-def]
                if not self.raced:
                    self.raced = True
                    for number in (2, 3):
                        last = lock_of(store, clock, number)
                        last.acquire()
                        if number == 2:
                            last.release()
                return self.blobs.put(name, chunks, if_absent=if_absent)

        with pytest.raises(LockHeld, match="host-3"):
            lock_of(PlanStore(Slow(store.blobs), "plan"), clock).acquire()
        assert generations(store) == ["00000002.json"]

    def test_removed_while_it_is_read(self, store: PlanStore, clock: Clock) -> None:
        class Stale(Passing):
            stale = True

            def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
                if self.stale:
                    self.stale = False
                    return [BlobInfo("plan/lock/00000001.json", 1)]
                return self.blobs.list(prefix, after=after)

        lock_of(PlanStore(Stale(store.blobs), "plan"), clock).acquire()
        assert generations(store) == ["00000001.json"]

    def test_after_kill_9_the_next_one_goes_on_at_once(self, store: PlanStore, url: str) -> None:
        with processes.start(HOLD, url) as process:
            processes.expect(process, "held")
            with pytest.raises(LockHeld, match=f"pid {process.pid}, `.*python.* -c "):
                PlanLock(store).acquire()
            process.kill()
            while Path(f"/proc/{process.pid}/stat").read_text().split(")")[1].split()[0] != "Z":
                pass
            lock = PlanLock(store)
            lock.acquire()  # also before anybody has waited for the dead one
            lock.release()
        PlanLock(store).acquire()

    def test_a_process_number_used_again_is_another_process(self, store: PlanStore) -> None:
        me = Holder.current()
        before = dataclasses.replace(me, process_start="1")
        PlanLock(store, before, seconds=3600).acquire()
        PlanLock(store, me, seconds=3600).acquire()
        with pytest.raises(LockHeld):
            PlanLock(store, me, seconds=3600).acquire()

    @pytest.mark.parametrize("change", [{"host": "other"}, {"boot": "other"}])
    def test_a_dead_looking_process_elsewhere_is_given_its_time(
        self, store: PlanStore, clock: Clock, change: dict[str, str]
    ) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        there = dataclasses.replace(Holder.current(), pid=gone.pid, process_start="1", **change)
        PlanLock(store, there, clock=clock).acquire()
        with pytest.raises(LockHeld):
            PlanLock(store, clock=clock).acquire()
        here = dataclasses.replace(Holder.current(), pid=gone.pid, process_start="1")
        assert here.is_gone(seen_from=Holder.current())
        assert not there.is_gone(seen_from=Holder.current())

    @pytest.mark.slow
    def test_processes_never_hold_it_at_once(self, url: str, tmp_path: Path) -> None:
        marker = str(tmp_path / "marker")
        competitors = [processes.start(COMPETE, url, marker) for _ in range(3)]
        for competitor in competitors:
            processes.expect(competitor, "ready")
        held = 0
        for competitor in competitors:
            assert competitor.stdin is not None
            competitor.stdin.write("go\n")
            competitor.stdin.flush()
        for competitor in competitors:
            output = competitor.communicate(timeout=60)[0]
            assert competitor.returncode == 0, output
            held += output.count("held")
        assert held >= 3

    def test_a_damaged_lock_is_left_to_a_person(self, store: PlanStore, clock: Clock) -> None:
        lock_of(store, clock).acquire()
        store.blobs.put(FIRST, store.blobs.get(FIRST)[:20])
        clock.now += 1000
        with pytest.raises(
            StoreError, match=r"00000001\.json cannot be read: .* delete it if no other"
        ):
            lock_of(store, clock, 2).acquire()

    def test_a_lock_of_a_newer_hippo_holds(self, store: PlanStore, clock: Clock) -> None:
        lock_of(store, clock).acquire()
        store.blobs.put(FIRST, json.dumps({"formatVersion": 2}).encode())
        clock.now += 1000
        with pytest.raises(NewerFormat, match="upgrade"):
            lock_of(store, clock, 2).acquire()
