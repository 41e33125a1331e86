"""The simulated driver keeps the contract of drivers."""

from __future__ import annotations

from typing import Any

from hippo.model import Sequence, parse_study
from hippo.simulate import Simulation, SimulationOptions
from tests.driver_contract import Document, DriverContract, Run
from tests.world import evaluate, seeded_state, train


class Trained:
    """The curves of the model that all drivers train here."""

    def metrics(self, sequence: Sequence, step: int, seed: int) -> dict[str, float]:
        state = seeded_state(seed)
        for number in range(step):
            state = train(state, number, sequence.values(number))
        return evaluate(state)


class TestSimulation(DriverContract):
    def run(self, *studies: Document) -> Run:
        trainer: Any = {"entrypoint": "trainer:T"}
        parsed = [parse_study({**s, "spec": {**s["spec"], "trainer": trainer}}) for s in studies]
        done = Simulation(parsed, Trained(), SimulationOptions(workers=2)).run()
        runs = done.engine.studies
        return Run(
            phases={name: str(run.state) for name, run in runs.items()},
            decisions=done.decisions,
            results={
                name: {
                    (trial.index, trial.latest[0]): trial.latest[1]["score"]
                    for trial in run.trials
                    if trial.latest is not None
                }
                for name, run in runs.items()
            },
            steps_trained=done.tally.steps_trained,
        )
