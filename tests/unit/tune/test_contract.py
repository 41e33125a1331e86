"""The contract, kept by every tuner there is."""

from __future__ import annotations

from typing import ClassVar

from hippo.model import AlgorithmSettings
from tests.unit.tune.contract import TunerContract


class TestGrid(TunerContract):
    algorithm: ClassVar = {"name": "grid"}
    finite_only = True


class TestRandom(TunerContract):
    algorithm: ClassVar = {"name": "random", "seed": 3}


class TestSha(TunerContract):
    algorithm: ClassVar = {"name": "sha", "seed": 3, "eta": 3, "minSteps": 3}
    early = True


class TestShaOfTwo(TunerContract):
    algorithm: ClassVar = {"name": "sha", "seed": 4, "eta": 2, "minSteps": 1}
    early = True


class TestAsha(TunerContract):
    algorithm: ClassVar = {"name": "asha", "seed": 3, "eta": 3, "minSteps": 3}
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


def test_no_tuner_is_left_out() -> None:
    tested = {contract.algorithm["name"] for contract in TunerContract.__subclasses__()}
    assert tested == set(AlgorithmSettings.NAMED)
