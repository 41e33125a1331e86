"""The local driver and the simulated one: the same study, durations and seed, the same decisions.

Where a tuner's choices do not depend on the order of results, the simulator is given what a real
run has reached and how long its work took, and has to decide the same. ASHA and median stopping do
depend on the order: their simulated engine is told the events of a real run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hippo.cli.arguments import locate_studies
from hippo.engine import Engine
from hippo.engine.commands import Command, Record
from hippo.engine.events import Event
from hippo.local import LocalDriver, RunOptions
from hippo.local.study_files import build_signature_document
from hippo.model import signature
from hippo.plan import Overheads, SearchPlan
from hippo.protocol.decisions import Decision
from hippo.session.session import Session
from hippo.session.stalls import Stall
from hippo.simulate import Pace, Simulation, SimulationOptions, find_curves
from hippo.store import open_blobs
from tests.integration.runs import Place
from tests.integration.test_run_exact import SPACE, STEPS

WORKERS = 3
FREE_OF_ORDER: dict[str, dict[str, Any]] = {
    "grid": {"algorithm": {"name": "grid"}},
    "random": {"algorithm": {"name": "random", "seed": 3}, "maxTrials": 12},
    "sha": {"algorithm": {"name": "sha", "seed": 1, "eta": 3, "minSteps": 2}, "maxTrials": 12},
    "hyperband": {"algorithm": {"name": "hyperband", "eta": 3, "minSteps": 2}},
    "pbt": {"algorithm": {"name": "pbt", "population": 6, "interval": 6}},
}
BY_ORDER: dict[str, dict[str, Any]] = {
    "asha": {"algorithm": {"name": "asha", "seed": 2, "eta": 2, "minSteps": 4}, "maxTrials": 16},
    "median": {"algorithm": {"name": "median", "every": 3, "minTrials": 2}, "maxTrials": 16},
}


class Silent:
    """Watches a run and says nothing."""

    def started(self, engine: Engine, session: Session) -> None: ...

    def updated(self, engine: Engine) -> None: ...

    def notified(self, message: str, study: str | None) -> None: ...

    def stalled(self, stalls: Sequence[Stall]) -> None: ...


@dataclass(eq=False, repr=False)
class RecordingDriver(LocalDriver):
    """Keeps what its engine is told, and what the engine answers."""

    events: list[tuple[Event, float]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    def _feed(self, event: Event) -> None:
        now = self.clock()
        self.events.append((event, now))
        for command in self.engine.handle(event, now):
            self.commands.append(command)
            self._carry_out(command)


def run(place: Place, study: Path) -> RecordingDriver:
    options = RunOptions(str(place.store_folder), place.folder / "logs", workers=WORKERS)
    driver = RecordingDriver(locate_studies([study]), options, Silent())
    driver.run()
    return driver


def verdicts(decisions: list[Decision]) -> set[Any]:
    """What was decided, in whatever order."""
    return {(d.kind, d.trial, d.steps, str(d.hyperparameters), d.parent) for d in decisions}


@pytest.mark.parametrize("name", FREE_OF_ORDER)
def test_a_simulated_run_decides_as_the_real_one(place: Place, name: str) -> None:
    study = place.study(name, SPACE, steps=STEPS, **FREE_OF_ORDER[name])
    driver = run(place, study)
    located = locate_studies([study])
    document = build_signature_document(located, merge=True)
    blobs = open_blobs(str(place.store_folder))
    curves = find_curves(blobs, "the store", "default", document, 0)
    measured = driver.engine.costs
    options = SimulationOptions(
        WORKERS,
        Pace(measured.mean_step),
        Overheads(
            measured.overheads.start,
            measured.overheads.load,
            measured.overheads.save,
            measured.overheads.evaluate,
        ),
    )
    simulation = Simulation([item.study for item in located], curves, options).run()
    stored = place.plan().read_decisions(name)
    assert stored
    assert verdicts(simulation.decisions[name]) == verdicts(stored)
    assert simulation.tally.steps_trained == place.check_nothing_twice()


@pytest.mark.parametrize("name", BY_ORDER)
def test_a_simulated_engine_decides_as_the_real_one(place: Place, name: str) -> None:
    driver = run(place, place.study(name, SPACE, steps=STEPS, **BY_ORDER[name]))
    document = place.plan().read_signature()
    assert document is not None
    engine = Engine(SearchPlan(signature(document)), driver.engine.options)
    commands = [command for event, now in driver.events for command in engine.handle(event, now)]
    assert commands == driver.commands
    decided = [command.decision for command in commands if isinstance(command, Record)]
    assert decided == place.plan().read_decisions(name)
    assert "stop" in {decision.kind for decision in decided}


def test_tuners_are_tried_on_what_a_grid_has_recorded(place: Place) -> None:
    grid = place.study("grid", SPACE, steps=STEPS)
    trained = place.run(grid)
    found = place.call(
        "simulate", grid, "--workers", "2", "--curves", place.store_folder, "-o", "json"
    ).json()
    assert found["curves"] == str(place.store_folder)
    assert found["studies"][0]["best"] == trained["best"]["trial"]
    assert found["stepsTrained"] == trained["stepsTrained"]
    sha = place.study("sha", SPACE, steps=STEPS, **FREE_OF_ORDER["sha"])
    failed = place.call(
        "simulate", sha, "--workers", "2", "--curves", place.store_folder, status=None
    )
    assert failed.status == 2
    assert "holds no metrics of" in failed.errors[0]
    assert "at step 2, seed 0: train it there" in failed.errors[0]
    one = {"algorithm": {"name": "random", "seed": 3}, "maxTrials": 5}
    drawn = place.study("random", SPACE, steps=STEPS, **one)
    done = place.call("simulate", drawn, "--workers", "2", "--curves", place.store_folder)
    assert "5 trials on 2 workers" in done.stdout
