"""A program of the user's and ``hippo run``, two processes that meet in the store."""

from __future__ import annotations

import math
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from hippo.client import Client, Closed, InvalidSpec, Refused, StudyEnded, TrialView
from hippo.protocol.requests import Taken
from hippo.store import StoreError
from hippo.store.mailbox import Mailbox
from tests.integration.runs import DEADLINE, Place
from tests.integration.test_run_crashes import find_covered

ROOT = Path(__file__).parents[2]
SLOW: dict[str, Any] = {"entrypoint": "walk:Walk", "config": {"sleep": 0.01}}
SHORT, LONG = 6, 24


def external(place: Place, **spec: Any) -> Path:
    changes = {"steps": LONG, "algorithm": {"name": "external"}, "trainer": SLOW, **spec}
    return place.study("own", {"lr": [0.1]}, **changes)


class Walker:
    """A random walk of ten trials. Every third goes on, every other third is stopped."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.random = random.Random(1)
        self.asked = 0
        self.to_extend: list[int] = []
        self.told: list[tuple[int, int, Mapping[str, float] | None]] = []

    def ask(self) -> tuple[Mapping[str, Any] | int, int] | None:
        if self.to_extend:
            return self.to_extend.pop(), LONG
        if self.asked == 10:
            return None
        self.asked += 1
        late = round(self.random.uniform(0.01, 0.1), 3)
        return {"lr": {"piecewise": [[0, 0.1], [4, late]]}}, SHORT

    def tell(self, trial: TrialView, step: int, metrics: Mapping[str, float] | None) -> None:
        self.told.append((trial.ticket, step, metrics))
        if step == SHORT and len(self.told) % 3 == 0:
            self.to_extend.append(trial.ticket)
        elif step == SHORT and len(self.told) % 3 == 1:
            self.client.stop(trial.ticket)


class Driver:
    """Starts ``hippo run``, and kills it with every so many results."""

    def __init__(self, place: Place, study: Path) -> None:
        self.place, self.study = place, study
        self.covered: set[str] = set()
        self.start()

    def start(self) -> None:
        self.known = len(self.place.trained())
        self.process = self.place.start("run", self.study, "--workers", "2", "-o", "json")

    def kill(self) -> None:
        self.place.kill(self.process)
        self.check()
        self.covered |= find_covered(self.place)
        self.start()

    def check(self) -> None:
        """What was stored before this process began was not trained by it."""
        assert not self.covered & {after for _, after in self.place.trained()[self.known :]}


def test_a_walk_survives_a_killed_driver(place: Place) -> None:
    study = external(place)
    driver = Driver(place, study)
    client = Client.open(place.store_folder, study)
    walker = Walker(client)
    tell = walker.tell

    def tell_and_kill(trial: TrialView, step: int, metrics: Mapping[str, float] | None) -> None:
        tell(trial, step, metrics)
        if len(walker.told) in (3, 8):
            driver.kill()

    walker.tell = tell_and_kill  # type: ignore[method-assign]
    views = client.drive(walker, in_flight=3)
    result = place.finish(driver.process).json()
    driver.check()

    # Nothing is lost, nothing is told twice.
    tickets = [ticket for ticket, step, _ in walker.told if step == SHORT]
    assert len(tickets) == len(set(tickets)) == 10
    extended = {ticket for ticket, step, _ in walker.told if step == LONG}
    assert extended
    decisions = place.plan().read_decisions("own")
    answered = [d.request for d in decisions if d.request is not None]
    assert len(answered) == len(set(answered))
    box = Mailbox(place.plan().blobs, place.plan().plan, "own")
    assert {*answered} == {*range(box.count() - 1)}  # the last one is to close
    views = client.results()
    assert {view.ticket for view in views.values() if view.phase == "Completed"} == extended
    assert {view.phase for view in views.values()} == {"Completed", "Stopped"}

    # The same points in a grid give the same results, and there is nothing left to train.
    known = len(place.trained())
    assert place.finish(place.start("run", study), status=0)
    assert len(place.trained()) == known
    points = [views[ticket].hyperparameters["lr"] for ticket in tickets]
    grid = place.run(place.study("grid", {"lr": points}, steps=SHORT, trainer=SLOW))
    by_point = {str(t["hyperparameters"]["lr"]): t["metrics"] for t in grid["trials"]}
    for view in views.values():
        assert view.metrics[SHORT] == by_point[str(view.hyperparameters["lr"])]
    assert len(place.trained()) == known
    assert len(result["trials"]) == 10


def test_it_waits_stops_in_order_and_tells_what_it_refuses(place: Place) -> None:
    objective = {"metric": "score", "goal": "maximize", "testMetric": "noise"}
    study = external(place, trainer={"entrypoint": "walk:Walk"}, objective=objective)
    with pytest.raises(StoreError, match="start `hippo run`"):
        Client.open(place.store_folder, "own", timeout=0)
    process = place.start("run", study, "--workers", "1")
    client = Client.open(place.store_folder, "own")
    plan = place.plan()
    plan.blobs.put(f"{plan.plan}/studies/own/requests/000000.json", b"dance")  # no request at all
    wrong = client.submit({"rate": 0.1}, 3)
    with pytest.raises(Refused, match=r"hyperparameters\.lr: is missing"):
        client.wait(wrong, timeout=DEADLINE)
    ticket = client.submit({"lr": 0.2}, 3)
    metrics = client.wait(ticket, timeout=DEADLINE).metrics
    assert set(metrics) == {3}
    assert set(metrics[3]) == {"score"}  # nobody is to select by the test metric
    process.send_signal(signal.SIGINT)
    assert place.finish(process, status=1).errors
    # Nobody is there; requests wait for the next run. What was refused is not tried again.
    client.extend(ticket, 5)
    client.extend(wrong, 5)
    with pytest.raises(TimeoutError):
        client.wait(ticket, timeout=0)
    again = place.start("run", study, "--workers", "1", "-o", "json")
    view = client.wait(ticket, timeout=DEADLINE)
    assert set(view.metrics) == {3, 5}
    with client:  # closes it
        pass
    client.close()
    with pytest.raises(Closed, match="this client has closed the study"):
        client.submit({"lr": 0.3}, 3)
    late = Client.open(place.store_folder, "own").submit({"lr": 0.3}, 3)
    (trial,) = place.finish(again).json()["trials"]
    assert (trial["phase"], trial["steps"]) == ("Stopped", 5)
    assert place.check_nothing_twice() == 5
    with pytest.raises((Refused, StudyEnded)):
        client.wait(late, timeout=DEADLINE)
    box = Mailbox(place.plan().blobs, place.plan().plan, "own")
    answers = box.read_answers().values()
    refused = {a.request for a in answers if isinstance(a, Taken) and a.refused is not None}
    assert {0, wrong, 4} <= refused


def test_numbers_of_numpy_and_pytorch_are_trained_as_they_are(place: Place) -> None:
    """And what is no number is refused before anything is asked for."""
    study = external(place, trainer={"entrypoint": "walk:Walk"}, steps=6)
    process = place.start("run", study, "--workers", "1", "-o", "json")
    with Client.open(place.store_folder, "own") as client:
        for value in (math.nan, np.float32("inf"), torch.tensor(math.nan), [0.1, -math.inf]):
            with pytest.raises(InvalidSpec, match=r"^hyperparameters\.lr(\[1\])?: must be finite"):
                client.submit({"lr": value}, 3)
        ticket = client.submit({np.str_("lr"): np.float32(0.1)}, np.int64(3))
        late = client.submit({"lr": {"piecewise": [[0, 0.2], [np.int8(2), torch.tensor(1)]]}}, 3)
        view = client.wait(np.int64(ticket), np.int32(3), timeout=DEADLINE)
        assert view.hyperparameters == {"lr": 0.10000000149011612}
        client.wait(late, timeout=DEADLINE)
        client.extend(np.int64(ticket), 7)
        with pytest.raises(Refused, match=r"steps: must be at most spec\.steps \(6\), not 7"):
            client.wait(ticket, 7, timeout=DEADLINE)
        with pytest.raises(Refused, match="nobody asked trial 0 for step 5"):
            client.wait(ticket, 5, timeout=DEADLINE)
    found = place.finish(process).json()
    written = [trial["hyperparameters"]["lr"] for trial in found["trials"]]
    assert written == [0.10000000149011612, {"piecewise": [[0, 0.2], [2, 1]]}]


def test_a_program_that_fails_leaves_the_study_open(place: Place) -> None:
    study = external(place, trainer={"entrypoint": "walk:Walk"}, steps=6)
    process = place.start("run", study, "--workers", "1", "-o", "json")

    def program() -> None:
        with Client.open(place.store_folder, "own") as client:
            client.wait(client.submit({"lr": 0.3}, 3), timeout=DEADLINE)
            client.submit({"lr": math.nan}, 3)

    with pytest.raises(InvalidSpec, match=r"hyperparameters\.lr: must be finite, not nan"):
        program()
    with Client.open(place.store_folder, "own") as client:  # the mended program
        assert len(client.results()) == 1
        client.submit({"lr": 0.4}, 3)
    assert len(place.finish(process).json()["trials"]) == 2


def test_an_objective_that_is_not_finite_is_told_as_a_failure(place: Place) -> None:
    space = {"lr": [0.1], "mode": ["good", "evaluate nan"]}
    study = place.study("own", space, steps=6, algorithm={"name": "external"})
    process = place.start("run", study, "--workers", "1", "-o", "json")
    told: list[tuple[int, Mapping[str, float] | None, str]] = []

    class Once:
        left: ClassVar = [("evaluate nan", 5), ("good", 3)]

        def ask(self) -> tuple[Mapping[str, Any], int] | None:
            if not self.left:
                return None
            mode, step = self.left.pop()
            return {"lr": 0.1, "mode": mode}, step

        def tell(self, trial: TrialView, step: int, metrics: Mapping[str, float] | None) -> None:
            told.append((step, metrics, trial.phase))

    client = Client.open(place.store_folder, "own")
    views = client.drive(Once())
    place.finish(process)
    by_step = {step: (metrics, phase) for step, metrics, phase in told}
    assert by_step[5] == (None, "Diverged")
    assert by_step[3][0] is not None
    diverged = next(view for view in views.values() if view.steps == 5)
    assert math.isnan(diverged.metrics[5]["score"])
    assert diverged.reason == "score was nan at step 5"


def test_the_example_runs(place: Place) -> None:
    for file in (ROOT / "examples" / "plain").glob("*.*"):
        shutil.copy(file, place.folder)
    process = place.start("run", "external.yaml", "--workers", "1", "-o", "json")
    climb = ROOT / "examples" / "external" / "climb.py"
    done = subprocess.run(
        [sys.executable, climb, place.store_folder, place.folder / "external.yaml", "4"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stderr == ""
    result = place.finish(process).json()
    assert len(done.stdout.splitlines()) == len(result["trials"]) == 4
    assert result["best"]["steps"] == 30
