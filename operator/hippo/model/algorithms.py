"""The settings of every algorithm, each a model discriminated by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from hippo.model.errors import InvalidSpec, Problems
from hippo.model.fields import Count, Integer, SpecModel, validate
from hippo.model.numbers import describe, shorten

MAX_MARKS = 1_000
"""Times that a tuner may look at a trial on its way; each is an evaluation."""


class AlgorithmSettings(SpecModel):
    """What stands below ``spec.algorithm``; subclasses register themselves by name."""

    NAMED: ClassVar[dict[str, type[AlgorithmSettings]]] = {}

    samples: ClassVar[bool] = True
    """Draws points from the space, so that ``maxTrials`` must bound it unless the space does."""

    bounded: ClassVar[bool] = False
    """Knows by itself when to end, however large the space."""

    name: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        name = cls.model_fields["name"].default
        if isinstance(name, str):
            cls.NAMED[name] = cls

    def check(self, steps: int) -> None:
        """Raises InvalidSpec, with paths below ``spec``, where settings do not suit the steps."""


class Grid(AlgorithmSettings):
    """Every point of a finite space, each trained in full."""

    samples: ClassVar[bool] = False
    name: Literal["grid"] = "grid"


class Random(AlgorithmSettings):
    """Random points, each trained in full."""

    name: Literal["random"] = "random"
    seed: Integer = 0


def _check_min_steps(min_steps: int, steps: int, problems: Problems) -> None:
    if min_steps > steps:
        problems.add("algorithm.minSteps", f"must be at most spec.steps ({steps}), not {min_steps}")


def _check_interval(name: str, interval: int, steps: int, problems: Problems) -> None:
    """An interval at whose multiples below ``steps`` something is to happen."""
    if interval >= steps:
        problems.add(f"algorithm.{name}", f"must be less than spec.steps ({steps}), not {interval}")
    elif (steps - 1) // interval > MAX_MARKS:
        least = (steps - 1) // (MAX_MARKS + 1) + 1
        problems.add(
            f"algorithm.{name}",
            f"must be at least {least:,}, so that a trial is looked at no more than {MAX_MARKS:,}"
            f" times on its way to step {steps:,}",
        )


class _Halving(AlgorithmSettings):
    seed: Integer = 0
    eta: Count = 3
    """Of so many trials, one goes on to the next rung, which is so many times as far."""
    min_steps: Count
    """The first rung."""

    def check(self, steps: int) -> None:
        problems = Problems()
        if self.eta < 2:
            problems.add("algorithm.eta", "must be at least 2")
        _check_min_steps(self.min_steps, steps, problems)
        problems.raise_if_any()


class Sha(_Halving):
    """Synchronous successive halving."""

    name: Literal["sha"] = "sha"


class Asha(_Halving):
    """Asynchronous successive halving, by promotion."""

    name: Literal["asha"] = "asha"


class Hyperband(_Halving):
    """Brackets of successive halving, from many short trials to few long ones."""

    bounded: ClassVar[bool] = True
    name: Literal["hyperband"] = "hyperband"


class Median(AlgorithmSettings):
    """Random points; a trial that falls behind the median of the completed ones is stopped."""

    name: Literal["median"] = "median"
    seed: Integer = 0
    every: Count
    """Steps between reports."""
    min_steps: Count = 1
    """No trial is stopped before."""
    min_trials: Count = 5
    """No trial is stopped until so many are completed."""

    def check(self, steps: int) -> None:
        problems = Problems()
        _check_interval("every", self.every, steps, problems)
        _check_min_steps(self.min_steps, steps, problems)
        problems.raise_if_any()


def read_algorithm(written: object) -> AlgorithmSettings:
    """The settings of a written algorithm. Raises InvalidSpec with relative paths."""
    if isinstance(written, AlgorithmSettings):
        return written
    known = ", ".join(sorted(AlgorithmSettings.NAMED))
    if not isinstance(written, Mapping):
        raise InvalidSpec.at("", f"must be a mapping with a name, not {describe(written)}")
    if "name" not in written:
        raise InvalidSpec.at("name", f"is missing; known: {known}")
    name = written["name"]
    model = AlgorithmSettings.NAMED.get(name) if isinstance(name, str) else None
    if model is None:
        raise InvalidSpec.at("name", f"unknown algorithm {shorten(repr(name))}; known: {known}")
    return validate(model, written)
