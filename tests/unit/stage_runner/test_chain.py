"""One chain at a time: exactness under every cut, and every way to end."""

from __future__ import annotations

import json
import math
import os
import signal
import struct
import threading
import time
from typing import Any

import pytest

from hippo.protocol.assignments import Route
from hippo.protocol.reports import Began, CheckpointSaved, ControlAnswered, Outcome
from hippo.store import PlanStore, StoreError
from stage_runner.checkpoints import memory
from stage_runner.checkpoints.codec import decode
from tests.unit.stage_runner.chains import SCHEDULES, Lab

EVERY_STEP = tuple(range(1, 13))


@pytest.mark.slow
@pytest.mark.parametrize("entrypoint", ["plain:PlainTrainer", "tiny_torch:TinyTrainer"])
def test_cut_at_every_step_gives_the_same_bits(lab: Lab, entrypoint: str) -> None:
    lab.entrypoint = entrypoint
    straight = lab.run(lab.assignment(evaluate_at=(12,)), plan="straight")
    evaluated = lab.run(lab.assignment(evaluate_at=EVERY_STEP), plan="evaluated")
    assert evaluated.digests[12] == straight.digests[12]
    assert evaluated.metrics[12] == straight.metrics[12]
    for start in range(12):
        cut = lab.run(lab.assignment(start + 1, start=start, evaluate_at=(start + 1,)))
        assert cut.ended.outcome is Outcome.COMPLETED
        assert cut.digests == {start + 1: evaluated.digests[start + 1]}
        assert cut.metrics == {start + 1: evaluated.metrics[start + 1]}
    assert sorted(lab.counted()) == sorted([*range(12)] * 3)


def test_a_fork_trains_on_under_other_values(lab: Lab) -> None:
    lab.entrypoint = "tiny_torch:TinyTrainer"
    fork = {**SCHEDULES, "batch_size": {"piecewise": [[0, 8], [4, 5]]}}  # in mid-epoch
    lab.run(lab.assignment(12, save_at=(4,)))
    forked = lab.run(lab.assignment(12, start=4, hyperparameters=fork, evaluate_at=(12,)))
    alone = lab.run(lab.assignment(12, hyperparameters=fork, evaluate_at=(12,)), plan="alone")
    assert forked.digests[12] == alone.digests[12]
    assert forked.metrics == alone.metrics


def test_a_trainer_may_do_what_it_likes_to_its_arguments(lab: Lab) -> None:
    given = {"lr": 0.1, "pair": [1, 2]}
    settings: dict[str, Any] = {"entrypoint": "plain:Greedy", "hyperparameters": given}
    settings["config"] = {"pull": 2}
    straight = lab.run(lab.assignment(6, evaluate_at=(3, 6), **settings))
    lab.run(lab.assignment(3, **settings), plan="cut")
    cut = lab.run(lab.assignment(6, start=3, evaluate_at=(6,), **settings), plan="cut")
    assert cut.metrics[6] == straight.metrics[6]


@pytest.mark.slow
@pytest.mark.parametrize("entrypoint", ["plain:PlainTrainer", "tiny_torch:TinyTrainer"])
def test_memory_that_is_used_again_gives_the_same_bits(
    lab: Lab, entrypoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.entrypoint = entrypoint
    fresh = lab.run(lab.assignment(evaluate_at=EVERY_STEP), plan="fresh")
    monkeypatch.setattr(memory, "_WORTHWHILE", 0)
    again = lab.run(lab.assignment(6, evaluate_at=EVERY_STEP[:6]))
    on = lab.run(lab.assignment(12, start=6, evaluate_at=EVERY_STEP[6:]))
    assert again.digests | on.digests == fresh.digests
    assert again.metrics | on.metrics == fresh.metrics


def test_a_mark_is_evaluated_and_nothing_is_stored_for_it(lab: Lab) -> None:
    marked = lab.run(lab.assignment(evaluate_at=(3, 5, 12), save_at=(12,)), plan="marked")
    straight = lab.run(lab.assignment(evaluate_at=EVERY_STEP), plan="straight")
    assert list(marked.digests) == [12]
    assert marked.digests[12] == straight.digests[12]
    assert marked.metrics == {step: straight.metrics[step] for step in (3, 5, 12)}


def test_reports_come_in_order_and_say_what_it_cost(lab: Lab) -> None:
    ran = lab.run(lab.assignment(6, save_at=(2, 4, 6), evaluate_at=(4, 6), studies=("a", "b")))
    assert ran.status == 0
    assert ran.kinds == [
        *("began@0", "checkpoint@2", "checkpoint@4", "metrics@4"),
        *("checkpoint@6", "metrics@6", "ended@6"),
    ]
    assert [report.sequence_number for report in ran.reports] == list(range(7))
    assert [report.trained for report in ran.reports] == [0, 2, 4, 4, 6, 6, 6]
    seconds = [report.worker_seconds for report in ran.reports]
    assert seconds == sorted(seconds)
    assert 0 < ran.ended.train_seconds < ran.ended.worker_seconds
    began = ran.reports[0]
    assert isinstance(began, Began)
    assert began.studies == ("a", "b")
    assert began.fingerprint["python"]


def test_evaluates_at_its_start_if_asked(lab: Lab) -> None:
    first = lab.run(lab.assignment(4, evaluate_at=(4,)))
    again = lab.run(lab.assignment(4, start=4, evaluate_at=(4,)))
    assert again.kinds == ["began@4", "metrics@4", "ended@4"]
    assert again.metrics == first.metrics
    assert lab.counted() == [0, 1, 2, 3]


def test_the_last_steps_are_not_saved_if_unwanted(lab: Lab) -> None:
    ran = lab.run(lab.assignment(6, save_at=(4,), save_at_stop=False))
    assert list(ran.digests) == [4]


def test_saves_by_time(lab: Lab) -> None:
    ran = lab.run(lab.assignment(6, save_every_seconds=0.0))
    assert list(ran.digests) == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_that_exists_is_kept(lab: Lab) -> None:
    lab.run(lab.assignment(4))
    again = lab.run(lab.assignment(4))
    saved = next(r for r in again.reports if isinstance(r, CheckpointSaved))
    assert (saved.existed, saved.differs) == (True, False)


def test_a_checkpoint_that_differs_is_told(lab: Lab) -> None:
    lab.run(lab.assignment(4))
    again = lab.run(lab.assignment(4, entrypoint="plain:Forgetful"))
    saved = next(r for r in again.reports if isinstance(r, CheckpointSaved))
    assert (saved.existed, saved.differs) == (True, True)


@pytest.mark.parametrize(
    ("settings", "outcome", "status", "during", "text"),
    [
        (
            {"config": {"fail_at": 3}},
            Outcome.FAILED,
            1,
            "step",
            "ValueError: told to fail (plain.py:",
        ),
        ({"entrypoint": "plian:X"}, Outcome.INVALID, 2, "import", "did you mean 'plain'?"),
        ({"entrypoint": "plain:PlanTrainer"}, Outcome.INVALID, 2, "import", "'PlainTrainer'?"),
        ({"entrypoint": "plain:NoTrainer"}, Outcome.INVALID, 2, "import", "no subclass"),
        ({"entrypoint": "plain:Unfinished"}, Outcome.INVALID, 2, "import", "load_state_dict()"),
        ({"entrypoint": "plain"}, Outcome.INVALID, 2, "import", "module:Class"),
        ({"entrypoint": "plain:Secretive"}, Outcome.INVALID, 2, "save", "state['rng']['own']: a "),
        ({"entrypoint": "plain:Wordy"}, Outcome.INVALID, 2, "evaluate", "metric 'score' must be"),
    ],
)
def test_what_the_trainer_does_wrong_is_one_line(
    lab: Lab,
    settings: dict[str, Any],
    outcome: Outcome,
    status: int,
    during: str,
    text: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ran = lab.run(lab.assignment(6, evaluate_at=(3, 6), **settings))
    assert (ran.status, ran.ended.outcome) == (status, outcome)
    error = ran.ended.error
    assert error is not None
    assert error.during == during
    assert text in error.message
    assert "\n" not in error.message
    log = capfd.readouterr().err
    assert error.message in log
    assert ("Traceback" in log) == (outcome is Outcome.FAILED)
    if outcome is Outcome.FAILED:
        assert error.step == 3
        assert list(ran.digests) == [3]


def test_metrics_that_are_no_numbers_any_more_are_reported(lab: Lab) -> None:
    ran = lab.run(lab.assignment(4, evaluate_at=(4,), config={"nan_at": 4}))
    assert ran.ended.outcome is Outcome.COMPLETED
    assert math.isnan(ran.metrics[4]["score"])


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "manifest", "foreign key"])
def test_a_damaged_start_checkpoint_is_never_loaded(lab: Lab, damage: str) -> None:
    lab.run(lab.assignment(4))
    plan = lab.folder / "store" / "plan"
    (data,) = (path for path in plan.glob("data/*/*") if path.is_file())
    (manifest,) = plan.glob("manifests/*")
    assignment = lab.assignment(8, start=4)
    match damage:
        case "truncated":
            data.write_bytes(data.read_bytes()[:-1])
        case "altered":
            content = bytearray(data.read_bytes())
            content[len(content) // 2] ^= 1
            data.write_bytes(content)
        case "missing":
            data.unlink()
        case "manifest":
            manifest.write_text("{")
        case "foreign key":
            assignment = assignment.model_copy(update={"start_key": "0" * 40})
    ran = lab.run(assignment)
    assert (ran.status, ran.ended.outcome) == (3, Outcome.CORRUPT)
    assert ran.ended.error is not None
    assert ran.ended.error.during == "load"
    assert lab.counted() == [0, 1, 2, 3]


def test_a_foreign_checkpoint_is_refused_unless_relaxed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run(lab.assignment(4))
    monkeypatch.setattr("stage_runner.fingerprint.RUNNER_FORMAT", "0")
    refused = lab.run(lab.assignment(8, start=4))
    assert (refused.status, refused.ended.outcome) == (3, Outcome.REFUSED)
    assert refused.ended.error is not None
    assert "runner 0.2 instead of 1.2" in refused.ended.error.message
    relaxed = lab.run(lab.assignment(8, start=4, exactness="relaxed"))
    assert relaxed.ended.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("entrypoint", "said"),
    [
        (
            "plain:Rounding",
            "load_state_dict() has not restored what state_dict() had returned: weights[0] is the"
            " float ",
        ),
        ("plain:Restless", "state_dict() returns something else at each call: saves is the int 3"),
    ],
)
def test_a_trainer_that_is_not_what_was_loaded_trains_nothing(
    lab: Lab, entrypoint: str, said: str
) -> None:
    lab.run(lab.assignment(4, entrypoint=entrypoint))
    ran = lab.run(lab.assignment(8, start=4, entrypoint=entrypoint))
    assert (ran.status, ran.ended.outcome) == (2, Outcome.INVALID)
    assert ran.ended.error is not None
    assert ran.ended.error.during == "load"
    assert said in ran.ended.error.message
    assert lab.counted() == [0, 1, 2, 3]


def test_checkpoints_of_another_format(lab: Lab) -> None:
    """One of format 1 cannot be compared, and is not refused for it where that may be; what a
    newer version wrote is not taken for damaged, and stays.
    """
    lab.run(lab.assignment(4))
    store = lab.store()
    (manifest,) = store.load().manifests.values()
    data = store.read_checkpoint(manifest)
    size = struct.unpack_from("<Q", data, 16)[0]
    first = json.dumps({"tree": json.loads(data[24 : 24 + size])["tree"], "blocks": []}).encode()
    first = struct.pack("<8sIIQ", data[:8], 1, 0, len(first)) + first
    first += bytes(-len(first) % 64)
    for plan, written in (("1", first), ("3", data[:8] + b"\3" + data[9:])):
        lab.store(plan).write_checkpoint(
            key=manifest.key,
            step=4,
            chunks=[written],
            state_digest="0" * 64,
            fingerprint={**manifest.fingerprint, "runner": f"1.{plan}"},
            chain="chain",
        )
    assignment = lab.assignment(12, start=4, exactness="relaxed")
    assert lab.run(assignment, plan="1").digests == lab.run(assignment).digests
    newer = lab.run(assignment, plan="3")
    assert newer.ended.outcome is Outcome.STORE
    assert newer.ended.error is not None
    assert "was written by a newer Hippo (checkpoint format 3," in newer.ended.error.message


def test_a_route_beyond_its_sequence_is_invalid(lab: Lab) -> None:
    ran = lab.run(lab.assignment(13))
    assert ran.ended.outcome is Outcome.INVALID
    assert ran.ended.error is not None
    assert ran.ended.error.during == "start"


def test_a_newer_assignment_is_invalid(lab: Lab) -> None:
    ran = lab.run(lab.assignment(format_version=99))
    assert ran.ended.outcome is Outcome.INVALID


def route(stop_at: int, hyperparameters: dict[str, Any] = SCHEDULES, **marks: Any) -> Route:
    return Route(hyperparameters=hyperparameters, steps=2000, stop_at=stop_at, **marks)


SLOW = {"config": {"sleep": 0.005}, "steps": 2000}


def answers(reports: list[Any]) -> list[tuple[int, bool]]:
    return [(r.version, r.accepted) for r in reports if isinstance(r, ControlAnswered)]


def test_a_barred_chain_trains_nothing(lab: Lab) -> None:
    assignment = lab.assignment()
    assert lab.store().bar(assignment.chain)
    ran = lab.run(assignment)
    assert ran.status == 74
    assert lab.counted() == []
    assert ran.kinds == ["ended@0"]


def test_told_to_stop_it_saves_and_stops(lab: Lab) -> None:
    assignment = lab.assignment(2000, **SLOW)
    thread = lab.steer_later(assignment, [("began", 1, route(0))])
    ran = lab.run(assignment)
    thread.join()
    assert answers(ran.reports) == [(1, True)]
    assert ran.ended.outcome is Outcome.STOPPED
    assert 0 < ran.ended.step < 2000
    assert list(ran.digests) == [ran.ended.step]


def test_extra_saves_are_taken_on_the_way(lab: Lab) -> None:
    assignment = lab.assignment(4, steps=200, linger_seconds=30.0)
    controls = [("arrived", 1, route(12, save_at=(2, 4, 8), evaluate_at=(4,)))]
    assignment = assignment.model_copy(
        update={"route": assignment.route.model_copy(update={"save_at": (2,)})}
    )
    thread = lab.steer_later(assignment, [*controls, ("arrived", 2, route(0))])
    ran = lab.run(assignment)
    thread.join()
    assert ran.kinds == [
        *("began@0", "checkpoint@2", "checkpoint@4", "arrived@4", "control@4", "metrics@4"),
        *("checkpoint@8", "checkpoint@12", "arrived@12", "control@12", "ended@12"),
    ]


def test_it_goes_on_with_another_sequence_equal_so_far(lab: Lab) -> None:
    other = {**SCHEDULES, "momentum": {"piecewise": [[0, 0.9], [5, 0.5]]}}
    assignment = lab.assignment(5, steps=200, linger_seconds=30.0)
    controls = [("arrived", 1, route(9, other, evaluate_at=(9,))), ("arrived", 2, route(0, other))]
    thread = lab.steer_later(assignment, controls)
    ran = lab.run(assignment)
    thread.join()
    assert answers(ran.reports) == [(1, True), (2, True)]
    alone = lab.run(
        lab.assignment(9, hyperparameters=other, steps=200, evaluate_at=(9,)), plan="alone"
    )
    assert ran.digests[9] == alone.digests[9]
    assert ran.metrics == alone.metrics


@pytest.mark.parametrize(
    "refused",
    [
        route(60, {**SCHEDULES, "momentum": 0.8}),
        route(60, {"lr": 0.1}),
        route(60, save_at=(1,)),
        route(60, evaluate_at=(1,)),
        route(2001),
        route(60, {**SCHEDULES, "momentum": {"nonsense": 1}}),
    ],
    ids=["other values", "other names", "save before", "evaluate before", "too far", "invalid"],
)
def test_a_route_it_cannot_take_is_refused_and_it_goes_on(lab: Lab, refused: Route) -> None:
    assignment = lab.assignment(2000, save_at=(3,), **SLOW)
    thread = lab.steer_later(assignment, [("checkpoint", 1, refused), ("control", 1, route(0))])
    ran = lab.run(assignment)
    thread.join()
    assert answers(ran.reports) == [(1, False), (2, True)]
    steps = [report.step for report in ran.reports if isinstance(report, ControlAnswered)]
    assert 3 <= steps[0] < steps[1] == ran.ended.step


def test_it_lingers_for_more_work(lab: Lab) -> None:
    assignment = lab.assignment(4, linger_seconds=10.0, steps=200)
    controls = [
        ("arrived", 1, route(8)),
        ("arrived", 2, route(12, {**SCHEDULES, "momentum": 0.1})),  # refused: it waits on
        ("control", 2, route(8)),  # released
    ]
    thread = lab.steer_later(assignment, controls)
    ran = lab.run(assignment)
    thread.join()
    assert answers(ran.reports) == [(1, True), (2, False), (3, True)]
    assert ran.kinds == [
        *("began@0", "checkpoint@4", "arrived@4", "control@4", "checkpoint@8", "arrived@8"),
        *("control@8", "control@8", "ended@8"),
    ]
    assert ran.ended.outcome is Outcome.COMPLETED


def test_it_does_not_linger_for_ever(lab: Lab) -> None:
    began = time.monotonic()
    ran = lab.run(lab.assignment(4, linger_seconds=0.1))
    assert ran.kinds[-2:] == ["arrived@4", "ended@4"]
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_sigterm_saves_at_the_end_of_the_step(lab: Lab) -> None:
    assignment = lab.assignment(2000, **SLOW)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    ran = lab.run(assignment)
    assert (ran.status, ran.ended.outcome) == (143, Outcome.PREEMPTED)
    assert 0 < ran.ended.step < 2000
    assert list(ran.digests) == [ran.ended.step]
    finished = lab.run(lab.assignment(2000, start=ran.ended.step, steps=2000))
    assert finished.ended.step == 2000
    assert lab.counted() == list(range(2000))


class Broken(PlanStore):
    """A store that fails to write checkpoints, or everything."""

    reports_too = False

    def write_checkpoint(self, **_: Any) -> Any:
        raise StoreError("no space left on device: free some")

    def write_report(self, report: Any) -> None:
        if self.reports_too:
            raise StoreError("no space left on device: free some")
        super().write_report(report)


@pytest.mark.parametrize("reports_too", [False, True])
def test_a_full_store_ends_the_chain(
    lab: Lab,
    reports_too: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken = Broken(lab.store().blobs, "plan")
    broken.reports_too = reports_too
    monkeypatch.setattr(lab, "store", lambda _plan="plan": broken)
    assignment = lab.assignment(2000, save_at=(2,), **SLOW)
    ran = lab.run(assignment)
    assert ran.status == 74
    assert "no space left on device: free some" in capfd.readouterr().err
    if not reports_too:
        assert ran.ended.outcome is Outcome.STORE
        assert ran.ended.step < 2000


def test_a_checkpoint_is_the_state_as_it_was(lab: Lab) -> None:
    """Training goes on while it is written; the lists in it are the trainer's own."""
    lab.run(lab.assignment(12, save_at=(5,)))
    store = lab.store()
    saved = {m.step: decode(store.read_checkpoint(m)) for m in store.load().manifests.values()}
    assert saved[5]["trained"] == 5
    assert saved[12]["trained"] == 12
