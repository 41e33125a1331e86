"""Settings of every algorithm, one pydantic model each, selected by ``name``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hippo.model.bounds import (
    MAX_CANDIDATES,
    MAX_ETA,
    MAX_FACTORS,
    MAX_GP_TRIALS,
    MAX_LEVELS,
    MAX_MARKS,
    MAX_POPULATION,
    MAX_SAMPLER_NUMBERS,
    MAX_SAMPLES,
    MAX_TRIALS,
    MAX_WEIGHT,
)
from hippo.model.errors import InvalidSpec, Problems
from hippo.model.fields import (
    Integer,
    JsonObject,
    Real,
    Share,
    SpecModel,
    StepCount,
    TrialCount,
    Whole,
    validate,
)
from hippo.model.sequences.numbers import describe, exact, shorten, whole_problem
from hippo.model.spaces.space import Space
from hippo.model.translations import algorithm_hint
from hippo.model.words import counted, did_you_mean


class AlgorithmSettings(SpecModel):
    """Base of the models of ``spec.algorithm``. Subclasses register themselves by name."""

    NAMED: ClassVar[dict[str, type[AlgorithmSettings]]] = {}

    samples: ClassVar[bool] = True
    """The algorithm draws points from the space, so ``maxTrials`` must bound it unless the space is
    finite."""

    bounded: ClassVar[bool] = False
    """The algorithm ends by itself, however large the space is."""

    name: str
    """Name of the algorithm; its settings are siblings of this field."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        name = cls.model_fields["name"].default
        if isinstance(name, str):
            cls.NAMED[name] = cls

    def check(self, steps: int) -> None:
        """Raises InvalidSpec, with paths below ``spec``, if the settings do not suit ``steps``."""

    def check_space(self, space: Space, max_trials: int | None) -> None:
        """Raises InvalidSpec if the settings do not suit the space or ``maxTrials``."""

    def count_trials(self, space: Space, max_trials: int | None, steps: int) -> int | None:
        """Upper bound of the number of trials; None if it is unknown."""
        known = [limit for limit in (max_trials, space.size) if limit is not None]
        return min(known, default=None)

    def own_parts(self, steps: int) -> int:
        """Most schedules that one trial's own schedule can be concatenated from."""
        return 1


class Grid(AlgorithmSettings):
    """Grid search: every point of a finite space, each trained in full."""

    samples: ClassVar[bool] = False
    name: Literal["grid"] = "grid"


class PrefixFirst(SpecModel):
    """Draw new trials so that they share prefixes with earlier trials of the study."""

    candidates: Annotated[int, Whole(2, MAX_CANDIDATES)] = 16
    """Number of candidate points per new trial, one of which is chosen. Defaults to 16."""
    late: Share = 0.5
    """Probability that a new trial is an earlier one with one value redrawn. Defaults to 0.5."""
    weight: Annotated[float, Real(0, MAX_WEIGHT)] = 1.0
    """A candidate with n steps that it shares with no earlier trial is chosen with probability
    proportional to (1 / n)^weight; 0 weighs all candidates equally. Defaults to 1."""
    levels: Annotated[int, Whole(2, MAX_LEVELS)] = 8
    """Number of values that represent a range with more values. Defaults to 8."""


class DrawingSettings(AlgorithmSettings):
    """Settings common to all algorithms that draw points from the space."""

    seed: Integer = 0
    """Seed of the drawn points and of tie-breaking. Defaults to 0."""
    prefix_first: PrefixFirst | None = None
    """Prefer trials that share a prefix with earlier ones. Draws are independent if absent."""


class Random(DrawingSettings):
    """Random search: random points, each trained in full."""

    name: Literal["random"] = "random"


def _check_min_steps(min_steps: int, steps: int, problems: Problems) -> None:
    if min_steps > steps:
        problems.add("algorithm.minSteps", f"must be at most spec.steps ({steps}), not {min_steps}")


def _check_interval(name: str, interval: int, steps: int, problems: Problems) -> None:
    """Checks an interval whose multiples below ``steps`` are decision points."""
    if interval >= steps:
        problems.add(f"algorithm.{name}", f"must be less than spec.steps ({steps}), not {interval}")
    elif (steps - 1) // interval > MAX_MARKS:
        least = (steps - 1) // (MAX_MARKS + 1) + 1
        problems.add(
            f"algorithm.{name}",
            f"must be at least {least:,}, so that a trial is looked at no more than {MAX_MARKS:,}"
            f" times on its way to step {steps:,}",
        )


class _Halving(DrawingSettings):
    eta: Annotated[int, Whole(2, MAX_ETA)] = 3
    """Reduction factor: one in eta trials is promoted to the next rung, which has eta times the
    steps. Defaults to 3."""
    min_steps: StepCount
    """Step of the first rung."""

    def check(self, steps: int) -> None:
        problems = Problems()
        _check_min_steps(self.min_steps, steps, problems)
        problems.raise_if_any()


class Sha(_Halving):
    """Synchronous successive halving."""

    name: Literal["sha"] = "sha"


class Asha(_Halving):
    """Asynchronous successive halving, by promotion."""

    name: Literal["asha"] = "asha"


def bracket_sizes(rungs: int, eta: int) -> tuple[int, ...]:
    """Number of trials that begin in each bracket, for s = s_max, ..., 0.

    Algorithm 1, line 3 of the Hyperband paper, with B = (s_max + 1) R. The paper's table 1 shows
    fewer trials in some brackets, as if rounded down.
    """
    return tuple(-(-rungs * eta**s // (s + 1)) for s in range(rungs - 1, -1, -1))


class Hyperband(_Halving):
    """Hyperband: brackets of successive halving, from many short trials to few long ones."""

    bounded: ClassVar[bool] = True
    name: Literal["hyperband"] = "hyperband"

    def count_trials(self, space: Space, max_trials: int | None, steps: int) -> int | None:
        rungs, step = 1, self.min_steps
        while step < steps:
            rungs, step = rungs + 1, step * self.eta
        once = sum(bracket_sizes(rungs, self.eta)) if max_trials is None else max_trials
        return super().count_trials(space, once, steps)


class Median(DrawingSettings):
    """Random search with the median stopping rule.

    A trial that falls below the median of the completed trials is stopped.
    """

    name: Literal["median"] = "median"
    every: StepCount
    """Steps between reports."""
    min_steps: StepCount = 1
    """Step before which no trial is stopped. Defaults to 1."""
    min_trials: TrialCount = 5
    """Number of completed trials before which no trial is stopped. Defaults to 5."""

    def check(self, steps: int) -> None:
        problems = Problems()
        _check_interval("every", self.every, steps, problems)
        _check_min_steps(self.min_steps, steps, problems)
        problems.raise_if_any()


class Pbt(AlgorithmSettings):
    """Synchronous population-based training (PBT), with truncation selection.

    The worst members of each round are replaced by perturbed copies of the best.
    """

    bounded: ClassVar[bool] = True
    name: Literal["pbt"] = "pbt"
    seed: Integer = 0
    """Seed of the drawn points and of tie-breaking. Defaults to 0."""
    population: Annotated[int, Whole(2, MAX_POPULATION)]
    """Number of concurrent trials."""
    interval: StepCount
    """Steps between rounds of exploit and explore."""
    quantile: Annotated[float, Real(0, 0.5, above=True)] = 0.25
    """Fraction of the population that is replaced in each round by as many trials from its top.
    Defaults to 0.25."""
    resample: Share = 0.25
    """Probability that a hyper-parameter is drawn afresh rather than perturbed. Defaults to
    0.25."""
    factors: Annotated[
        list[Annotated[float, Real(0, above=True)]],
        Field(min_length=1, max_length=MAX_FACTORS),
    ] = Field(default=[0.8, 1.2])
    """Factors that perturb a number; one of them is drawn. Defaults to 0.8 and 1.2."""

    @property
    def replaced(self) -> int:
        """Trials replaced per round. Exact: 0.29 of 100 is 29."""
        return math.floor(exact(self.quantile) * self.population)

    def count_trials(self, space: Space, max_trials: int | None, steps: int) -> int | None:
        return self.population + self.replaced * ((steps - 1) // self.interval)

    def own_parts(self, steps: int) -> int:
        """A lineage is replaced in about that fraction of the rounds."""
        return 1 + math.ceil((steps - 1) // self.interval * self.quantile)

    def check(self, steps: int) -> None:
        problems = Problems()
        if self.replaced < 1:
            least = math.ceil(1 / exact(self.quantile))
            problems.add(
                "algorithm.population",
                f"must be at least {least}, or a quantile of {self.quantile:g} replaces no trial",
            )
        _check_interval("interval", self.interval, steps, problems)
        for index, factor in enumerate(self.factors):
            if factor == 1:
                problems.add(f"algorithm.factors[{index}]", "must not be 1, which changes nothing")
        problems.raise_if_any()

    def check_space(self, space: Space, max_trials: int | None) -> None:
        problems = Problems()
        if max_trials is not None:
            problems.add(
                "maxTrials",
                "must be left out: pbt makes as many trials as its population, and another for"
                " each that it replaces",
            )
        if space.static.issuperset(space.names):
            problems.add("space", "is static throughout, so that pbt has nothing to vary")
        if space.size is not None and space.size < self.population:
            problems.add(
                "algorithm.population",
                f"must be at most {space.size}, the number of points of the space,"
                f" not {self.population}",
            )
        problems.raise_if_any()


_STARTUP = Whole(1, MAX_TRIALS)

SAMPLER_SETTINGS: dict[str, dict[str, Whole | str]] = {
    "tpe": {
        "constant_liar": "flag",
        "group": "flag",
        "multivariate": "flag",
        "n_ei_candidates": Whole(1, MAX_SAMPLES),
        "n_startup_trials": _STARTUP,
    },
    "gp": {"deterministic_objective": "flag", "n_startup_trials": _STARTUP},
    "cmaes": {
        "lr_adapt": "flag",
        "n_startup_trials": _STARTUP,
        "popsize": Whole(2, MAX_SAMPLES),
        "use_separable_cma": "flag",
    },
    "qmc": {"qmc_type": "sobol | halton", "scramble": "flag"},
}
"""Keyword arguments of Optuna's samplers that a study may set, by sampler."""


class Optuna(DrawingSettings):
    """Points suggested by one of Optuna's samplers, each trained in full."""

    name: Literal["optuna"] = "optuna"
    sampler: Literal["tpe", "gp", "cmaes", "qmc"]
    """Name of the Optuna sampler."""
    settings: JsonObject = Field(default_factory=dict)
    """Keyword arguments of the sampler, spelled as in Optuna."""

    def check(self, steps: int) -> None:
        problems = Problems()
        known = SAMPLER_SETTINGS[self.sampler]
        for name, value in self.settings.items():
            path = f"algorithm.settings.{name}"
            kind = known.get(name)
            if kind is None:
                problems.add(
                    path,
                    f"{self.sampler} has no such setting; known: {', '.join(sorted(known))}"
                    + did_you_mean(name, known),
                )
            elif isinstance(kind, Whole):
                problem = whole_problem(value, kind.least, kind.most)
                if problem is not None:
                    problems.add(path, problem)
            elif kind == "flag" and not isinstance(value, bool):
                problems.add(path, f"must be true or false, not {describe(value)}")
            elif "|" in kind and value not in kind.split(" | "):
                problems.add(path, f"must be {kind}, not {describe(value)}")
        settings = self.settings
        if not problems.found:
            if settings.get("group") and not settings.get("multivariate"):
                problems.add("algorithm.settings.group", "needs multivariate: true")
            if settings.get("lr_adapt") and settings.get("use_separable_cma"):
                problems.add("algorithm.settings.lr_adapt", "does not go with use_separable_cma")
        problems.raise_if_any()

    def check_space(self, space: Space, max_trials: int | None) -> None:
        """Bounds the size of the sampler's largest array. TPE compares 24 points by default."""
        trials = self.count_trials(space, max_trials, 0)
        dimensions = max(len(space.dimensions), 1)
        if trials is None:
            return
        if self.sampler == "gp":
            most = min(MAX_GP_TRIALS, math.isqrt(MAX_SAMPLER_NUMBERS // dimensions))
        elif self.sampler == "tpe":
            each = self.settings.get("n_ei_candidates", 24)
            if whole_problem(each, 1, MAX_SAMPLES) is not None:
                return
            most = MAX_SAMPLER_NUMBERS // each
            most //= dimensions if self.settings.get("multivariate") else 1
        else:
            return
        if trials > most:
            raise InvalidSpec.at(
                "maxTrials",
                f"must be at most {most} with the sampler {self.sampler} and its settings in a"
                f" space of {counted(dimensions, 'dimension')}",
            )


class External(AlgorithmSettings):
    """Trials created by a user's program; the space only declares the hyper-parameters' names."""

    bounded: ClassVar[bool] = True
    name: Literal["external"] = "external"

    def count_trials(self, space: Space, max_trials: int | None, steps: int) -> int | None:
        return max_trials


def read_algorithm(written: object) -> AlgorithmSettings:
    """Reads the settings of an algorithm. Raises InvalidSpec with relative paths."""
    if isinstance(written, AlgorithmSettings):
        return written
    known = ", ".join(sorted(AlgorithmSettings.NAMED))
    if not isinstance(written, Mapping):
        is_name = isinstance(written, str) and written in AlgorithmSettings.NAMED
        exact_name = f"; write {{name: {written}}}" if is_name else None
        hint = exact_name or algorithm_hint(written, {*AlgorithmSettings.NAMED})
        raise InvalidSpec.at("", f"must be a mapping with a name, not {describe(written)}{hint}")
    if "name" not in written:
        raise InvalidSpec.at("name", f"is missing; known: {known}")
    name = written["name"]
    model = AlgorithmSettings.NAMED.get(name) if isinstance(name, str) else None
    if model is None:
        hint = algorithm_hint(name, {*AlgorithmSettings.NAMED})
        raise InvalidSpec.at(
            "name", f"unknown algorithm {shorten(repr(name))}; known: {known}{hint}"
        )
    return validate(model, written)
