"""What a worker is at, as others see it; and calls that outlast their limit."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.protocol.reports import During, Ended, Outcome, Report
from hippo.store import DirectoryBlobs, PlanStore
from stage_runner import watch as watching
from stage_runner.chain import Chain
from stage_runner.checkpoints.writer import Writer
from stage_runner.pulse import Pulse, Standing
from stage_runner.watch import Watch
from tests.unit.stage_runner.chains import TRAINERS, Lab


@pytest.fixture
def shared() -> Iterator[tuple[Pulse, Pulse]]:
    """The worker's side and its server's."""
    descriptor = Pulse.share()
    yield Pulse(descriptor), Pulse(descriptor)
    os.close(descriptor)


@given(st.sampled_from(During.__args__), st.integers(0, 2**53), st.floats(0, 1e12), st.text())
def test_who_shares_the_memory_reads_what_was_noted(
    during: During, step: int, since: float, place: str
) -> None:
    descriptor = Pulse.share()
    worker, server = Pulse(descriptor), Pulse(descriptor)
    os.close(descriptor)
    assert server.read() == Standing("start", 0, 0.0)
    worker.note(during, step, since)
    assert server.read() == Standing(during, step, since)
    worker.note_place(worker.read(), place)
    assert (
        server.read().place.encode("utf-8", "replace")[:190]
        == place.encode("utf-8", "replace")[:190]
    )
    worker.note_step(step + 1, since)
    assert server.read() == Standing("step", step + 1, since)
    worker.close()
    assert server.read().step == step + 1, "it outlives the worker"


def test_the_place_of_a_call_that_is_over_is_not_noted(shared: tuple[Pulse, Pulse]) -> None:
    worker, server = shared
    worker.note_step(1, 1.0)
    before = worker.read()
    worker.note_step(2, 2.0)
    worker.note_place(before, "trainer.py:1")
    assert server.read() == Standing("step", 2, 2.0)


def test_memory_of_its_own_is_nobody_elses() -> None:
    one, other = Pulse(), Pulse()
    one.note_step(5, 1.0)
    assert other.read().step == 0


class Overdue:
    """Takes the verdict of a watch."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.standing: Standing | None = None
        self.text = ""

    def __call__(self, standing: Standing, text: str) -> None:
        self.standing, self.text = standing, text
        self.told.set()


@pytest.mark.parametrize("during", ["setup", "load", "step", "evaluate", "save"])
def test_a_call_beyond_the_limit_is_told_once(during: During, tmp_path: Path) -> None:
    pulse, overdue = Pulse(), Overdue()
    watch = Watch(pulse, path=tmp_path, limit=0.05, on_overdue=overdue)
    pulse.note(during, 3, time.perf_counter())
    watch.start()
    assert overdue.told.wait(20)
    watch.close()
    assert overdue.standing is not None
    assert (overdue.standing.during, overdue.standing.step) == (during, 3)
    assert "has not ended within trainer.stepTimeout (0.05 s): it stands at test_watch.py:" in (
        overdue.text
    )


@pytest.mark.parametrize("during", ["start", "import", "store"])
def test_only_calls_of_the_trainer_are_limited(during: During, tmp_path: Path) -> None:
    pulse, overdue = Pulse(), Overdue()
    watch = Watch(pulse, path=tmp_path, limit=0.02, on_overdue=overdue)
    pulse.note(during, 0, time.perf_counter())
    watch.start()
    assert not overdue.told.wait(0.2)
    pulse.note("step", 0, time.perf_counter())
    assert overdue.told.wait(20)
    watch.close()


def test_short_calls_one_after_another_are_never_overdue(tmp_path: Path) -> None:
    pulse, overdue = Pulse(), Overdue()
    watch = Watch(pulse, path=tmp_path, limit=30.0, on_overdue=overdue)
    watch.start()
    for step in range(100):
        pulse.note_step(step, time.perf_counter() - 25.0)
        time.sleep(0.001)
    watch.close()
    assert not overdue.told.is_set()


def test_after_the_last_report_whoever_would_report_waits(lab: Lab) -> None:
    """A step that ends at the last moment reports nothing behind the verdict."""
    ran = lab.run(lab.assignment(2))
    writer = Writer(lab.store("other"), on_report=lambda _: None)
    writer.finish(lambda number: ran.ended.model_copy(update={"sequence_number": number}))
    late = threading.Thread(
        target=lambda: writer.report(lambda number: ran.reports[0]), daemon=True
    )
    late.start()
    late.join(0.2)
    assert late.is_alive()
    assert [r.kind for r in lab.store("other").read_reports(ran.ended.chain)] == ["ended"]
    writer.close()


def test_the_log_says_where_a_call_stands_that_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(watching, "_TOLD_AFTER_SECONDS", 0.05)
    pulse = Pulse()
    watch = Watch(pulse, path=Path(__file__).parent, limit=None, on_overdue=Overdue())
    pulse.note("evaluate", 6, time.perf_counter() - 600.0)
    watch.start()
    said = ""
    while not said.endswith("\n"):
        time.sleep(0.01)
        said += capsys.readouterr().err
    watch.close()
    assert re.match(
        r"evaluate\(\) at step 6 has not ended for 600 s: test_watch\.py:\d+, in test_the_log", said
    )
    assert pulse.read().place.startswith("test_watch.py:")


class SlowStore(PlanStore):
    """Every report takes longer than a step may."""

    def write_report(self, report: Report) -> None:
        time.sleep(0.3)
        super().write_report(report)


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"fail_at": 2}, {"nan_at": 3}])
def test_waiting_for_the_store_or_for_another_route_is_no_call(
    lab: Lab, config: dict[str, int]
) -> None:
    """Whoever counted that would end this process here."""
    assignment = lab.assignment(
        3, config=config, evaluate_at=(1, 3), linger_seconds=0.5, step_timeout_seconds=0.1
    )
    store = SlowStore(DirectoryBlobs(lab.folder / "store"), "plan")
    Chain(assignment, store, path=TRAINERS, launched=time.monotonic()).run()
    last = store.read_reports(assignment.chain)[-1]
    assert isinstance(last, Ended)
    assert last.outcome is (Outcome.FAILED if "fail_at" in config else Outcome.COMPLETED)
    assert last.error is None or last.error.message.startswith("ValueError: told to fail")


def test_a_limit_that_is_kept_changes_nothing(lab: Lab) -> None:
    free = lab.run(lab.assignment(12, evaluate_at=(6, 12)), plan="free")
    limited = lab.run(lab.assignment(12, evaluate_at=(6, 12), step_timeout_seconds=60.0))
    assert limited.digests == free.digests
    assert limited.metrics == free.metrics
    assert limited.kinds == free.kinds
