"""Optuna's samplers: TPE, GP, CMA-ES and QMC (T. Akiba et al., "Optuna", KDD 2019).

Optuna keeps a study of its own that grows by ask and tell. Here nothing may grow: a tuner must be
the same after a restart, whatever order results come in. So each suggestion asks a fresh study that
is told all there is to know, in order of trials, and whose sampler is seeded by a hash of (seed,
trial, attempt). That costs O(trials) for each suggestion, far less than the sampler itself.

How the samplers are told:

- TPE and GP learn of each result at once. Trials under way are shown as running, so that several
  workers are not all sent to the same place (TPE's constant liar, GP's expected improvement over
  pending points). A failed trial counts as the worst result so far.
- CMA-ES learns in generations, and which generation a point belongs to is not in the point. It is
  replayed as if trials had run one after the other: a result counts once those of all earlier
  trials are in, and counts for the generation that the optimizer was then at. A failed trial is
  infinitely bad, which is all that the ranks need. Only numbers that every trial has take part;
  choices, and what depends on them, are drawn at random, as Optuna does.
- QMC never learns: trial i gets point i of the sequence.

Ranges so wide, narrow or high that Optuna's arithmetic would overflow are shown to it as positions
in [0, 1].
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from hippo.model import InvalidSpec, Optuna, Study, canonical_json
from hippo.model.spaces.dimensions import Dimension, Value
from hippo.model.spaces.domains import Choices, Uniform
from hippo.model.spaces.sampling import permuted
from hippo.model.spaces.space import Space
from hippo.model.words import counted
from hippo.protocol.decisions import Decision
from hippo.tune.ordering import Rank
from hippo.tune.tuner import Tuner

if TYPE_CHECKING:
    import optuna

_NEEDS = {
    "tpe": ("optuna",),
    "gp": ("optuna", "scipy", "torch"),
    "cmaes": ("optuna", "cmaes"),
    "qmc": ("optuna", "scipy"),
}
_SEEDS = 2**32


class OptunaTuner(Tuner):
    """Suggests one trial at a time, for idle workers, and trains each in full."""

    for_idle_workers = True

    def __init__(self, study: Study, settings: Optuna) -> None:
        """Raises InvalidSpec if a package is missing."""
        super().__init__(study, seed=settings.seed)
        _check_packages(settings.sampler)
        self._source = _SOURCES[settings.sampler](self._space, settings)
        self.learns = self._source.learns
        self.by_order = f"which points {settings.sampler} draws" if self.learns else None
        self._name = settings.sampler
        self._points: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._values: dict[int, float] = {}  # of trials, ascending: the smallest is the best
        self._drawn: dict[tuple[int, int], dict[str, Any]] = {}  # since something was learnt

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
        """A point of the sampler; of a finite space, one that was not suggested before."""
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
        seed = _hash(self.seed, trial, attempt)
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


class _Source(ABC):
    """One of Optuna's samplers, as a function of what is known."""

    learns = True
    patience = 8
    """So many draws of points suggested before, and any other point of a finite space will do."""
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, space: Space, settings: Optuna) -> None:
        self._space = space
        self._seed = settings.seed
        self._settings = {**self.defaults, **settings.settings}
        self._known: list[dict[str, Value]] = []

    def note_point(self, trial: int, point: Mapping[str, Any]) -> None:
        """A trial was suggested."""
        self._known.append(self._as_seen(point) if self.learns else {})

    def _as_seen(self, point: Mapping[str, Any]) -> dict[str, Value]:
        """The coordinates of a point, as the sampler sees them."""
        coordinates = self._space.coordinates(point)
        return {
            dimension.path: dimension.inward(coordinates[dimension.path])
            for dimension in self._space.dimensions
            if dimension.path in coordinates
        }

    @abstractmethod
    def point(
        self, trial: int, draw: int, values: Mapping[int, float], running: set[int]
    ) -> dict[str, Any]:
        """A draw for a new trial. ``values``: to be minimized; infinite for a failure."""

    @abstractmethod
    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """As it is before it is told anything."""

    def _study(self, seed: int, trials: list[optuna.trial.FrozenTrial]) -> optuna.Study:
        import optuna

        study = optuna.create_study(direction="minimize", sampler=self._sampler(seed))
        study.add_trials(trials)
        return study


class _Tpe(_Source):
    """Choices within choices are asked one after the other, as trials come to them."""

    def point(
        self, trial: int, draw: int, values: Mapping[int, float], running: set[int]
    ) -> dict[str, Any]:
        with _quiet():
            told = _told(self._space, self._known, values, running)
            asked = self._study(_hash(self._seed, trial, draw), told).ask()
            return self._space.assemble(
                lambda dimension: dimension.outward(_suggest(asked, dimension))
            )

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.TPESampler(seed=seed, **self._settings)


class _Gp(_Source):
    """Every trial has every dimension: where it does not matter, at its middle."""

    patience = 2  # draws are dear, and differ little

    def __init__(self, space: Space, settings: Optuna) -> None:
        super().__init__(space, settings)
        self._middle = _middle(space.dimensions)

    def note_point(self, trial: int, point: Mapping[str, Any]) -> None:
        self._known.append({**self._middle, **self._as_seen(point)})

    def point(
        self, trial: int, draw: int, values: Mapping[int, float], running: set[int]
    ) -> dict[str, Any]:
        with _quiet():
            told = _told(self._space, self._known, values, running)
            study = self._study(_hash(self._seed, trial, draw), told)
            chosen = study.ask(_distributions(self._space.dimensions)).params
        return self._space.assemble(lambda dimension: dimension.outward(chosen[dimension.path]))

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.GPSampler(
            seed=seed, warn_independent_sampling=False, **self._settings
        )


class _Cmaes(_Source):
    """Keeps the replay as far as it has come: results already told never change.

    Of it, only the end matters: the trial that carries the optimizer's latest state, and those that
    came after, of its generation. So each step of it costs the same.
    """

    def __init__(self, space: Space, settings: Optuna) -> None:
        super().__init__(space, settings)
        self._numbers = tuple(
            dimension
            for dimension in space.dimensions
            if not dimension.is_conditional and not isinstance(dimension.template, Choices)
        )
        self._told: list[optuna.trial.FrozenTrial] = []  # the end of the replay
        self._replayed = 0
        self._least = settings.settings.get("n_startup_trials", 1)

    def point(
        self, trial: int, draw: int, values: Mapping[int, float], running: set[int]
    ) -> dict[str, Any]:
        seed = _hash(self._seed, trial, draw)
        chosen: dict[str, Any] = {}
        if self._numbers:
            with _quiet():
                self._replay(values)
                study = self._study(seed, self._told)
                chosen = study.ask(_distributions(self._numbers)).params
        return self._space.assemble(
            lambda dimension: (
                dimension.outward(chosen[dimension.path])
                if dimension.path in chosen
                else dimension.draw(seed, trial)
            )
        )

    def _replay(self, values: Mapping[int, float]) -> None:
        """Tell results in order of trials, each with the generation that an ask would get."""
        import optuna

        distributions = _distributions(self._numbers)
        while (trial := self._replayed) in values and trial < len(self._known):
            study = self._study(_hash(self._seed, trial, 0), self._told)
            study.ask(distributions)
            state = study.get_trials(deepcopy=False)[-1].system_attrs
            if any("optimizer" in name for name in state):
                self._told = self._told[-self._least :]
            self._told.append(
                optuna.trial.create_trial(
                    params={name: self._known[trial][name] for name in distributions},
                    distributions=distributions,
                    value=values[trial],
                    system_attrs=state,
                )
            )
            self._replayed += 1

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.CmaEsSampler(
            seed=seed, warn_independent_sampling=False, **self._settings
        )


class _Qmc(_Source):
    """Further draws for one trial are the same point of further scrambled sequences."""

    learns = False
    # Unscrambled, the first point is a corner, and all seeds are alike.
    defaults: ClassVar[Mapping[str, Any]] = {"scramble": True}

    def __init__(self, space: Space, settings: Optuna) -> None:
        super().__init__(space, settings)
        self._sequences: dict[int, tuple[optuna.Study, list[dict[str, Any]]]] = {}

    def point(
        self, trial: int, draw: int, values: Mapping[int, float], running: set[int]
    ) -> dict[str, Any]:
        dimensions = self._space.dimensions
        if not dimensions:
            return self._space.pick(0)
        distributions = _distributions(dimensions)
        with _quiet():
            if draw not in self._sequences:
                # Says what there is to choose.
                told = [_trial(distributions, _middle(dimensions), 0.0)]
                self._sequences[draw] = self._study(_hash(self._seed, 0, draw), told), []
            study, points = self._sequences[draw]
            while len(points) <= trial:
                points.append(study.ask(distributions).params)
        return self._space.assemble(
            lambda dimension: dimension.outward(points[trial][dimension.path])
        )

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.QMCSampler(
            seed=seed, warn_independent_sampling=False, **self._settings
        )


_SOURCES: dict[str, type[_Source]] = {"tpe": _Tpe, "gp": _Gp, "cmaes": _Cmaes, "qmc": _Qmc}


def _told(
    space: Space, known: list[dict[str, Value]], values: Mapping[int, float], running: set[int]
) -> list[optuna.trial.FrozenTrial]:
    """All trials with a result or on their way to one, in order."""
    distributions = _distributions(space.dimensions)
    worst = max((value for value in values.values() if math.isfinite(value)), default=0.0)
    return [
        _trial(distributions, point, min(values[trial], worst) if trial in values else None)
        for trial, point in enumerate(known)
        if trial in values or trial in running
    ]


def _trial(
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
    point: Mapping[str, Value],
    value: float | None,
) -> optuna.trial.FrozenTrial:
    """A trial with its result, or a running one."""
    import optuna

    state = optuna.trial.TrialState.RUNNING if value is None else optuna.trial.TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state,
        params=dict(point),
        distributions={name: distributions[name] for name in point},
        value=value,
    )


def _middle(dimensions: Iterable[Dimension]) -> dict[str, Value]:
    """A point that says nothing, as a sampler sees it."""
    return {dimension.path: dimension.inward(dimension.middle) for dimension in dimensions}


def _distributions(
    dimensions: tuple[Dimension, ...],
) -> dict[str, optuna.distributions.BaseDistribution]:
    return {dimension.path: _distribution(dimension) for dimension in dimensions}


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    template = dimension.template
    if isinstance(template, Choices):
        return CategoricalDistribution(range(len(template.options)))
    if dimension.is_extreme:
        return FloatDistribution(0.0, 1.0)
    if isinstance(template, Uniform):
        return FloatDistribution(template.low, template.high, log=template.log)
    last = template.pick(template.size - 1)
    if template.log and template.step > 1:  # Optuna has none of both; admit() finds the nearest
        return FloatDistribution(template.low, last, log=True)
    return IntDistribution(template.low, last, log=template.log, step=template.step)


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Value:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    path, distribution = dimension.path, _distribution(dimension)
    match distribution:
        case CategoricalDistribution(choices=choices):
            return int(trial.suggest_categorical(path, choices))  # type: ignore[arg-type]
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(path, low, high, log=log)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(path, low, high, step=step, log=log)
        case _:
            raise TypeError(path)


def _hash(seed: int, trial: int, draw: int) -> int:
    """The seed of a sampler that is asked once."""
    digest = sha256(f"hippo optuna {seed} {trial} {draw}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _SEEDS


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its log of studies that begin, and without warnings of settings that may
    change: both come anew with every suggestion.
    """
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Once the GP is sure of its best point, shares of the others are 0 / 0. It copes.
            warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"optuna\._gp")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _check_packages(sampler: str) -> None:
    missing = [name for name in _NEEDS[sampler] if importlib.util.find_spec(name) is None]
    if missing:
        extras = "optuna,torch" if sampler == "gp" else "optuna"
        raise InvalidSpec.at(
            "spec.algorithm.sampler",
            f"{sampler} needs {' and '.join(missing)}: pip install 'hippo-tuner[{extras}]'",
        )
