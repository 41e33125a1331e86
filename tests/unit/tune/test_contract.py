"""Every tuner keeps the contract."""

from __future__ import annotations

from typing import ClassVar

import pytest

from hippo.model import AlgorithmSettings, InvalidSpec, canonical_json
from tests.unit.tune.contract import TunerContract, plain, tied
from tests.unit.tune.simulation import CONTINUOUS, Simulation

FEW = {"candidates": 3}


class TestGrid(TunerContract):
    algorithm: ClassVar = {"name": "grid"}
    finite_only = True


class TestRandom(TunerContract):
    algorithm: ClassVar = {"name": "random", "seed": 3}


class TestRandomPrefixFirst(TunerContract):
    algorithm: ClassVar = {"name": "random", "seed": 3, "prefixFirst": FEW}


class TestSha(TunerContract):
    algorithm: ClassVar = {"name": "sha", "seed": 3, "eta": 3, "minSteps": 3}
    early = True


class TestShaPrefixFirst(TunerContract):
    algorithm: ClassVar = {
        "name": "sha",
        "seed": 3,
        "minSteps": 3,
        "prefixFirst": {"candidates": 4, "late": 0.8, "weight": 2.5, "levels": 2},
    }
    early = True


class TestShaOfTwo(TunerContract):
    algorithm: ClassVar = {"name": "sha", "seed": 4, "eta": 2, "minSteps": 1}
    early = True


class TestAsha(TunerContract):
    algorithm: ClassVar = {"name": "asha", "seed": 3, "eta": 3, "minSteps": 3}
    early = True


class TestAshaPrefixFirst(TunerContract):
    algorithm: ClassVar = {
        "name": "asha",
        "seed": 3,
        "minSteps": 3,
        "prefixFirst": FEW | {"weight": 0},
    }
    early = True


class TestAshaOfTwo(TunerContract):
    algorithm: ClassVar = {"name": "asha", "seed": 4, "eta": 2, "minSteps": 1}
    early = True


class TestHyperband(TunerContract):
    algorithm: ClassVar = {"name": "hyperband", "seed": 3, "eta": 3, "minSteps": 1}
    early = True
    begins_anywhere = True


class TestHyperbandOfTwo(TunerContract):
    algorithm: ClassVar = {"name": "hyperband", "seed": 4, "eta": 2, "minSteps": 3}
    early = True
    begins_anywhere = True


class TestHyperbandPrefixFirst(TunerContract):
    algorithm: ClassVar = {"name": "hyperband", "seed": 3, "minSteps": 1, "prefixFirst": FEW}
    early = True
    begins_anywhere = True


class TestMedian(TunerContract):
    algorithm: ClassVar = {
        "name": "median",
        "seed": 3,
        "every": 4,
        "minSteps": 8,
        "minTrials": 3,
    }
    early = True
    begins_anywhere = True


class TestMedianPrefixFirst(TunerContract):
    algorithm: ClassVar = {**TestMedian.algorithm, "prefixFirst": FEW | {"late": 1}}
    early = True
    begins_anywhere = True


class TestPbt(TunerContract):
    """PBT makes as many trials as its rounds need, so the contract on maxTrials does not apply."""

    algorithm: ClassVar = {"name": "pbt", "seed": 3, "population": 8, "interval": 6}
    max_trials = None
    early = True
    begins_anywhere = True

    @pytest.mark.slow
    def test_suggests_no_more_than_it_may(self) -> None:
        with pytest.raises(InvalidSpec, match=r"spec\.maxTrials: must be left out"):
            self.study(max_trials=20)
        for simulation in (Simulation(self.study(), values).run() for values in (plain, tied)):
            assert len(simulation.asked()) == 8 + 2 * 4  # 2 of 8 in each of 4 rounds
            assert simulation.tuner.exhausted

    def test_never_suggests_a_point_of_a_finite_space_twice(self) -> None:
        points = [
            canonical_json(decision.hyperparameters)
            for decision in Simulation(self.study()).run().decisions
            if decision.kind == "suggest"
        ]
        assert len(set(points[:8])) == 8
        assert len(set(points)) == len(points) == 16

    def test_draws_from_continuous_spaces(self) -> None:
        decisions = Simulation(self.study(space=CONTINUOUS)).run().decisions
        first = [d.hyperparameters for d in decisions if d.kind == "suggest"][:8]
        assert all(1e-4 <= point["lr"] <= 1.0 for point in first if point is not None)

    @pytest.mark.slow
    def test_more_trials_may_be_asked_for_on_the_way(self) -> None:
        simulation = Simulation(self.study())
        simulation.decide()
        simulation.tuner.resize(None)
        assert len(simulation.run().asked()) == 16

    def test_more_trials_may_be_asked_for_after_the_end(self) -> None:
        simulation = Simulation(self.study()).run()
        simulation.tuner.resize(None)
        assert simulation.tuner.finished

    @staticmethod
    def may_be_tried_again(simulation: Simulation) -> set[int]:
        """Trials that failed before the last round have been replaced."""
        asked = {trial: steps[-1] for trial, steps in simulation.asked().items()}
        farthest = max(asked.values())
        return {trial for trial in simulation.failed() if asked[trial] == farthest}


@pytest.mark.slow
class TestTpe(TunerContract):
    algorithm: ClassVar = {"name": "optuna", "sampler": "tpe", "seed": 3}


@pytest.mark.slow
class TestTpePrefixFirst(TunerContract):
    algorithm: ClassVar = {**TestTpe.algorithm, "prefixFirst": {"candidates": 2, "late": 0.7}}


@pytest.mark.slow
class TestGp(TunerContract):
    algorithm: ClassVar = {"name": "optuna", "sampler": "gp", "settings": {"n_startup_trials": 34}}


@pytest.mark.slow
class TestCmaes(TunerContract):
    algorithm: ClassVar = {"name": "optuna", "sampler": "cmaes", "seed": 3}


@pytest.mark.slow
class TestQmc(TunerContract):
    algorithm: ClassVar = {"name": "optuna", "sampler": "qmc", "seed": 3}


def test_no_tuner_is_left_out() -> None:
    tested = {contract.algorithm["name"] for contract in TunerContract.__subclasses__()}
    tested.add("external")  # decides nothing by itself: test_external.py
    assert tested == set(AlgorithmSettings.NAMED)
