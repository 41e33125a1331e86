"""Optuna's samplers as functions of what is known, for ``OptunaTuner``.

What the samplers are told:

- TPE and GP learn of each result at once. Unfinished trials are shown as running, so that several
  workers are not sent to the same place (TPE's constant liar, GP's expected improvement over
  pending points). A failed trial counts as the worst result so far.
- CMA-ES learns in generations, and a point does not tell which generation it belongs to. The trials
  are replayed as if they had run one after the other: a result counts once the results of all
  earlier trials are in, for the generation that the optimizer was then at. A failed trial has an
  infinite value, which suffices because only ranks matter. Only numbers that every trial has take
  part; choices, and whatever depends on them, are drawn at random, as in Optuna.
- QMC never learns: trial i gets point i of the sequence.

Ranges so wide, narrow or high that Optuna's arithmetic would overflow are shown to it as positions
in [0, 1].
"""

from __future__ import annotations

import contextlib
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from hippo.model import Optuna
from hippo.model.spaces.dimensions import Dimension, Value
from hippo.model.spaces.domains import Choices, Uniform
from hippo.model.spaces.space import Space

if TYPE_CHECKING:
    import optuna

_SEEDS = 2**32


class Source(ABC):
    """One of Optuna's samplers, as a function of what is known."""

    learns = True
    patience = 8
    """Draws of known points after which any other point of a finite space is taken."""
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, space: Space, settings: Optuna) -> None:
        self._space = space
        self._seed = settings.seed
        self._settings = {**self.defaults, **settings.settings}
        self._known: list[dict[str, Value]] = []

    def note_point(self, trial: int, point: Mapping[str, Any]) -> None:
        """Records that a trial was suggested."""
        self._known.append(self._as_seen(point) if self.learns else {})

    def _as_seen(self, point: Mapping[str, Any]) -> dict[str, Value]:
        """Returns the coordinates of a point, as the sampler sees them."""
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
        """Returns a draw for a new trial. ``values`` are minimized; a failure is infinite."""

    @abstractmethod
    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Returns a sampler that was told nothing yet."""

    def _study(self, seed: int, trials: list[optuna.trial.FrozenTrial]) -> optuna.Study:
        import optuna

        study = optuna.create_study(direction="minimize", sampler=self._sampler(seed))
        study.add_trials(trials)
        return study


class _Tpe(Source):
    """Nested choices are asked one after the other, as they become relevant."""

    def point(
        self, trial: int, draw: int, values: Mapping[int, float], running: set[int]
    ) -> dict[str, Any]:
        with _quiet():
            told = _told(self._space, self._known, values, running)
            asked = self._study(hash_draw(self._seed, trial, draw), told).ask()
            return self._space.assemble(
                lambda dimension: dimension.outward(_suggest(asked, dimension))
            )

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.TPESampler(seed=seed, **self._settings)


class _Gp(Source):
    """Every trial has every dimension; irrelevant ones are at their middle."""

    patience = 2  # draws are expensive and differ little

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
            study = self._study(hash_draw(self._seed, trial, draw), told)
            chosen = study.ask(_distributions(self._space.dimensions)).params
        return self._space.assemble(lambda dimension: dimension.outward(chosen[dimension.path]))

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.GPSampler(
            seed=seed, warn_independent_sampling=False, **self._settings
        )


class _Cmaes(Source):
    """Keeps the replay so far, since results already told never change.

    Only the end of the replay matters: the trial that carries the optimizer's latest state, and the
    later ones of its generation. So every step takes the same time.
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
        seed = hash_draw(self._seed, trial, draw)
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
        """Tells results in order of trials, each with the generation that an ask would get."""
        import optuna

        distributions = _distributions(self._numbers)
        while (trial := self._replayed) in values and trial < len(self._known):
            study = self._study(hash_draw(self._seed, trial, 0), self._told)
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


class _Qmc(Source):
    """Further draws for one trial take the same point of further scrambled sequences."""

    learns = False
    # Unscrambled, the first point is a corner, and all seeds give the same sequence.
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
                # One told trial defines the search space.
                told = [_trial(distributions, _middle(dimensions), 0.0)]
                self._sequences[draw] = self._study(hash_draw(self._seed, 0, draw), told), []
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


SOURCES: dict[str, type[Source]] = {"tpe": _Tpe, "gp": _Gp, "cmaes": _Cmaes, "qmc": _Qmc}


def _told(
    space: Space, known: list[dict[str, Value]], values: Mapping[int, float], running: set[int]
) -> list[optuna.trial.FrozenTrial]:
    """Returns all trials with a result or without one but running, in order."""
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
    """Returns a completed trial, or a running one if ``value`` is None."""
    import optuna

    state = optuna.trial.TrialState.RUNNING if value is None else optuna.trial.TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state,
        params=dict(point),
        distributions={name: distributions[name] for name in point},
        value=value,
    )


def _middle(dimensions: Iterable[Dimension]) -> dict[str, Value]:
    """Returns a neutral point, as a sampler sees it."""
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
    if template.log and template.step > 1:  # not both in Optuna; admit() finds the nearest
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


def hash_draw(seed: int, trial: int, draw: int) -> int:
    """Returns the seed of a sampler that is asked once."""
    digest = sha256(f"hippo optuna {seed} {trial} {draw}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _SEEDS


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Optuna's log of created studies and its warnings about experimental settings.

    Both would be repeated with every suggestion.
    """
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Once the GP is sure of its best point, weights of the others are 0 / 0, which it
            # handles.
            warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"optuna\._gp")
            yield
    finally:
        optuna.logging.set_verbosity(before)
