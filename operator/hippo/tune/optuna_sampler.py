"""Optuna's samplers: TPE, GP, CMA-ES and QMC (T. Akiba et al., "Optuna", KDD 2019).

Optuna keeps a study of its own that grows by ask and tell. A tuner must not depend on such history:
it must be the same after a restart, whatever order results arrive in. So each suggestion asks a
fresh study that is told everything known, in order of trials, and whose sampler is seeded by a hash
of (seed, trial, attempt). That takes O(trials) per suggestion, far less than the sampler itself.

``optuna_sources`` defines what each sampler is told.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from hippo.model import InvalidSpec, Optuna, Study, canonical_json
from hippo.model.spaces.sampling import permuted
from hippo.model.words import counted
from hippo.protocol.decisions import Decision
from hippo.tune.optuna_sources import SOURCES, hash_draw
from hippo.tune.ordering import Rank
from hippo.tune.tuner import Tuner

_NEEDS = {
    "tpe": ("optuna",),
    "gp": ("optuna", "scipy", "torch"),
    "cmaes": ("optuna", "cmaes"),
    "qmc": ("optuna", "scipy"),
}


class OptunaTuner(Tuner):
    """Suggests one trial at a time, for idle workers, and trains each in full."""

    for_idle_workers = True

    def __init__(self, study: Study, settings: Optuna) -> None:
        """Raises InvalidSpec if a package is missing."""
        super().__init__(study, seed=settings.seed)
        _check_packages(settings.sampler)
        self._source = SOURCES[settings.sampler](self._space, settings)
        self.learns = self._source.learns
        self.by_order = f"which points {settings.sampler} draws" if self.learns else None
        self._name = settings.sampler
        self._points: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._values: dict[int, float] = {}  # by trial, ascending: the least is the best
        self._drawn: dict[tuple[int, int], dict[str, Any]] = {}  # since the last news

    def decide(self, idle: int) -> list[Decision]:
        return self._suggestions(min(idle, 1), self.steps)

    def apply(self, decision: Decision) -> None:
        super().apply(decision)
        self._drawn.clear()
        if decision.kind == "suggest":
            assert decision.hyperparameters is not None
            self._points.append(decision.hyperparameters)
            self._seen.add(canonical_json(decision.hyperparameters))
            self._source.note_point(decision.trial, decision.hyperparameters)

    def _ranked(self, trial: int, rung: int, rank: Rank) -> None:
        failed, value, *_ = rank
        self._values[trial] = math.inf if failed else value
        self._drawn.clear()

    def _candidate(self, trial: int, attempt: int) -> dict[str, Any]:
        """Returns a point of the sampler; in a finite space, one that was not suggested before."""
        point = self._drawn.get((trial, attempt))
        if point is None:
            point = self._drawn[trial, attempt] = self._draw(trial, attempt)
        return dict(point)

    def _draw(self, trial: int, attempt: int) -> dict[str, Any]:
        patience = self._source.patience
        running = self._pending & set(range(len(self._points)))
        for draw in range(attempt * patience, (attempt + 1) * patience):
            point = self._source.point(trial, draw, self._values, running)
            if self._space.size is None or canonical_json(point) not in self._seen:
                return point
        assert self._space.size is not None
        seed = hash_draw(self.seed, trial, attempt)
        points = (permuted(seed, index, self._space.size) for index in range(self._space.size))
        return next(
            point
            for point in map(self._space.pick, points)
            if canonical_json(point) not in self._seen
        )

    def _why(self, trial: int) -> str:
        told = f"told {counted(len(self._values), 'result')}"
        known = told if self.learns else "a fixed sequence"
        return f"draw {trial + 1} of {self._limit} by {self._name} ({known}, seed {self.seed})"


def _check_packages(sampler: str) -> None:
    missing = [name for name in _NEEDS[sampler] if importlib.util.find_spec(name) is None]
    if missing:
        extras = "optuna,torch" if sampler == "gp" else "optuna"
        raise InvalidSpec.at(
            "spec.algorithm.sampler",
            f"{sampler} needs {' and '.join(missing)}: pip install 'hippo-tuner[{extras}]'",
        )
