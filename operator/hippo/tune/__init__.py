"""Tuners: they decide which trials there are and how far each is trained."""

from __future__ import annotations

from hippo.model import (
    Asha,
    External,
    Grid,
    Hyperband,
    InvalidSpec,
    Median,
    Optuna,
    Pbt,
    Random,
    Sha,
    Study,
)
from hippo.tune.asha import AshaTuner
from hippo.tune.external import ExternalTuner
from hippo.tune.following import FollowingTuner
from hippo.tune.grid import GridTuner
from hippo.tune.hyperband import HyperbandTuner
from hippo.tune.median import MedianTuner
from hippo.tune.optuna_sampler import OptunaTuner
from hippo.tune.ordering import Rank, rank
from hippo.tune.pbt import PbtTuner
from hippo.tune.random import RandomTuner
from hippo.tune.sha import ShaTuner
from hippo.tune.tuner import Result, Tuner

__all__ = ["FollowingTuner", "Rank", "Result", "Tuner", "create_tuner", "rank"]


def create_tuner(study: Study) -> Tuner:
    """Returns the study's tuner in its initial state.

    Raises InvalidSpec for an unknown algorithm.
    """
    match study.spec.algorithm:
        case Grid():
            return GridTuner(study)
        case Random() as settings:
            return RandomTuner(study, settings)
        case Sha() as settings:
            return ShaTuner(study, settings)
        case Asha() as settings:
            return AshaTuner(study, settings)
        case Hyperband() as settings:
            return HyperbandTuner(study, settings)
        case Median() as settings:
            return MedianTuner(study, settings)
        case Pbt() as settings:
            return PbtTuner(study, settings)
        case Optuna() as settings:
            return OptunaTuner(study, settings)
        case External():
            return ExternalTuner(study)
        case settings:
            raise InvalidSpec.at("spec.algorithm.name", f"no tuner for {settings.name!r}")
