"""The local driver keeps the contract of drivers, with real workers and a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.driver_contract import Document, DriverContract, Run
from tests.integration.runs import Place

TRAINER = {"entrypoint": "hashed:Hashed"}


class TestLocal(DriverContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.runs = 0

    def score(self, hyperparameters: Document, step: int, seed: int) -> float:
        return super().score(hyperparameters, step, 0)

    def run(self, *studies: Document) -> Run:
        self.runs += 1
        place = Place(self.folder / f"run {self.runs}")
        try:
            return run_in(place, studies)
        finally:
            place.clean_up()


def run_in(place: Place, studies: tuple[Document, ...]) -> Run:
    files = []
    for study in studies:
        file = place.folder / f"{study['metadata']['name']}.yaml"
        file.write_text(json.dumps({**study, "spec": {**study["spec"], "trainer": TRAINER}}))
        files.append(file)
    done = place.run(*files)
    results: dict[str, dict[tuple[int, int], float]] = {s["study"]: {} for s in done["studies"]}
    for trial in done["trials"]:
        index = int(trial["trial"].rpartition("-")[2])
        results[trial["study"]][index, trial["steps"]] = trial["metrics"]["score"]
    return Run(
        phases={study["study"]: study["phase"] for study in done["studies"]},
        decisions={name: place.plan().read_decisions(name) for name in results},
        results=results,
        steps_trained=done["stepsTrained"],
    )
