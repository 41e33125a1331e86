"""Domains of a space: choices, ranges, and schedules that contain them.

A written choice with nested domains becomes a *template*, continuous if its ``size`` is None.
Points are picked by index (a finite template has points 0 to size - 1, the last part varying
fastest) or drawn by hashes of (seed, index, place).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import Any

from hippo.model.sequences.numbers import canonical_json
from hippo.model.sequences.schedule_reader import DOMAIN_KEYS
from hippo.model.spaces.sampling import below, between, between_log, position, position_log, unit

MAX_REPRESENTATIVES = 256
"""Most representatives of one choice when forks are searched."""

MAX_NEIGHBOURS = 32
"""Size up to which all integers of a range are neighbours of one another."""


_HUGE = 1e150
"""Squares of numbers below it, and of their inverses, are finite."""
_LARGE = 2**50
"""Integers up to here can be halved and added exactly."""


class Template(ABC):
    """A written value with domains in some places. Immutable."""

    __slots__ = ()

    size: int | None
    """Number of points; None if continuous."""

    @property
    def is_weighted(self) -> bool:
        """Whether the points of a finite template are not equally likely."""
        return False

    @property
    def is_nested(self) -> bool:
        """Whether schedules contain domains."""
        return False

    @abstractmethod
    def pick(self, index: int) -> Any:
        """Returns the index-th point, as written; only if size is not None."""

    @abstractmethod
    def draw(self, seed: int, index: int, place: str) -> Any:
        """Returns a random point. ``place`` distinguishes the parts of a space."""

    @abstractmethod
    def representatives(self) -> list[Any]:
        """Returns points that together show every way in which the template's points differ."""

    @abstractmethod
    def has(self, written: Any) -> bool:
        """Whether the value is a point of the template."""

    def neighbours(self, written: Any) -> list[Any]:
        """Returns points that differ from the given one in one part."""
        return self.representatives()


@dataclass(frozen=True, slots=True)
class Fixed(Template):
    written: Any
    size: int | None = 1

    def pick(self, index: int) -> Any:
        return self.written

    def draw(self, seed: int, index: int, place: str) -> Any:
        return self.written

    def representatives(self) -> list[Any]:
        return [self.written]

    def has(self, written: Any) -> bool:
        return self.written is written or canonical_json(self.written) == canonical_json(written)


class Choices(Template):
    __slots__ = ("options", "size")

    def __init__(self, options: tuple[Template, ...]) -> None:
        self.options = options
        sizes = [option.size for option in options if option.size is not None]
        self.size = sum(sizes) if len(sizes) == len(options) else None

    @property
    def is_weighted(self) -> bool:
        return any(option.is_weighted for option in self.options)

    @property
    def is_nested(self) -> bool:
        return any(not isinstance(option, Fixed) for option in self.options)

    def pick(self, index: int) -> Any:
        if self.size == len(self.options):
            return self.options[index].pick(0)
        for option in self.options:
            assert option.size is not None
            if index < option.size:
                return option.pick(index)
            index -= option.size
        raise IndexError(index)

    def draw(self, seed: int, index: int, place: str) -> Any:
        chosen = below(seed, index, place, len(self.options))
        return self.options[chosen].draw(seed, index, f"{place}[{chosen}]")

    def representatives(self) -> list[Any]:
        return [point for option in self.options for point in option.representatives()]

    def has(self, written: Any) -> bool:
        return any(option.has(written) for option in self.options)

    def neighbours(self, written: Any) -> list[Any]:
        near: list[Any] = []
        for option in self.options:
            near += option.representatives()
            if isinstance(option, Assembly) and option.has(written):
                near += option.neighbours(written)
        return near


@dataclass(frozen=True, slots=True)
class Uniform(Template):
    """All doubles with six significant digits between low and high."""

    low: float
    high: float
    log: bool
    size: int | None = None

    def pick(self, index: int) -> Any:
        raise IndexError("a continuous domain has no index")

    def draw(self, seed: int, index: int, place: str) -> float:
        return self.at(unit(seed, index, place))

    def nearest_level(self, written: float, levels: int) -> float:
        """Returns the middle of the level that holds a number; ``levels`` split the scale."""
        at = self.position(written)
        return self.at((min(int(at * levels), levels - 1) + 0.5) / levels)

    @property
    def is_extreme(self) -> bool:
        """Whether sums or squares of such numbers may overflow or underflow."""
        most = max(abs(self.low), abs(self.high))
        return not self.log and not (most < _HUGE and self.high - self.low > 1 / _HUGE)

    def position(self, written: float) -> float:
        """Returns the position of a number on the domain's scale: 0 is ``low``, 1 is ``high``."""
        return (position_log if self.log else position)(self.low, self.high, written)

    def at(self, way: float) -> float:
        """Returns the number at a position in [0, 1]."""
        return (between_log if self.log else between)(self.low, self.high, way)

    def representatives(self) -> list[Any]:
        return [self.low, self.high, between(self.low, self.high, 0.618034)]

    def has(self, written: Any) -> bool:
        return _is_number(written) and bool(self.low <= written <= self.high)


class Integers(Template):
    """The integers low, low + step, ... up to high."""

    __slots__ = ("high", "log", "low", "size", "step")

    def __init__(self, low: int, high: int, step: int, *, log: bool) -> None:
        self.low, self.high, self.step, self.log = low, high, step, log
        self.size: int = (high - low) // step + 1

    @property
    def is_weighted(self) -> bool:
        return self.log

    def pick(self, index: int) -> int:
        return self.low + index * self.step

    def draw(self, seed: int, index: int, place: str) -> int:
        if not self.log:
            return self.pick(below(seed, index, place, self.size))
        return self._nearest(between_log(*self._log_scale, unit(seed, index, place)))

    @property
    def _log_scale(self) -> tuple[float, float]:
        """Bounds of the scale on which every integer gets the part that is nearest to it."""
        low = max(self.low - self.step / 2, self.low / 2)
        return low, self.pick(self.size - 1) + self.step / 2

    def _nearest(self, x: float) -> int:
        return self.pick(min(max(round((x - self.low) / self.step), 0), self.size - 1))

    @property
    def is_extreme(self) -> bool:
        """Whether a neighbouring double of such numbers may round to another integer."""
        return max(abs(self.low), abs(self.high)) > _LARGE

    def position(self, written: float) -> float:
        """Returns the position of an integer on the domain's scale, in [0, 1]."""
        if self.log:
            return position_log(*self._log_scale, written)
        return (int(written) - self.low) // self.step / max(self.size - 1, 1)

    def at(self, way: float) -> int:
        """Returns the integer nearest to a position in [0, 1]."""
        if self.log:
            return self._nearest(between_log(*self._log_scale, way))
        return self.pick(min(round(way * (self.size - 1)), self.size - 1))

    def nearest_level(self, written: float, levels: int) -> int:
        """Returns the middle of the level that holds an integer; ``levels`` split the scale."""
        if self.size <= levels:
            return int(written)
        if self.log:
            level = self._log_level(written, levels)
            middle = self._nearest(between_log(*self._log_scale, (level + 0.5) / levels))
            # A level may be so narrow that the integer nearest to its middle lies outside.
            return middle if self._log_level(middle, levels) == level else int(written)
        level = (int(written) - self.low) // self.step * levels // self.size
        first, beyond = (-(-edge * self.size // levels) for edge in (level, level + 1))
        return self.pick((first + beyond - 1) // 2)

    def _log_level(self, written: float, levels: int) -> int:
        return min(int(position_log(*self._log_scale, written) * levels), levels - 1)

    def representatives(self) -> list[Any]:
        return sorted({self.pick(0), self.pick(self.size // 2), self.pick(self.size - 1)})

    def has(self, written: Any) -> bool:
        return (
            _is_number(written)
            and self.low <= written <= self.high
            and (written - self.low) % self.step == 0
        )

    def neighbours(self, written: Any) -> list[Any]:
        if self.size <= MAX_NEIGHBOURS:
            return [self.pick(index) for index in range(self.size)]
        return self.representatives()


class Assembly(Template):
    """A mapping or list with templates in some places."""

    __slots__ = ("parts", "size", "written")

    def __init__(self, written: Any, parts: tuple[tuple[Any, Template], ...]) -> None:
        self.written = written
        self.parts = parts
        sizes = [part.size for _, part in parts if part.size is not None]
        self.size = prod(sizes) if len(sizes) == len(parts) else None

    @property
    def is_weighted(self) -> bool:
        return any(part.is_weighted for _, part in self.parts)

    def filled(self, values: Mapping[Any, Any], written: Any = None) -> Any:
        """Returns the written value with these values in place of its templates."""
        filled = (self.written if written is None else written).copy()
        for key, value in values.items():
            filled[key] = value
        return filled

    def pick(self, index: int) -> Any:
        values = {}
        for key, part in reversed(self.parts):
            assert part.size is not None
            index, own = divmod(index, part.size)
            values[key] = part.pick(own)
        return self.filled(values)

    def draw(self, seed: int, index: int, place: str) -> Any:
        return self.filled(
            {key: part.draw(seed, index, f"{place}.{key}") for key, part in self.parts}
        )

    def representatives(self) -> list[Any]:
        keys = [key for key, _ in self.parts]
        each = [part.representatives() for _, part in self.parts]
        if prod(map(len, each)) <= MAX_REPRESENTATIVES:
            return [self.filled(dict(zip(keys, one, strict=True))) for one in product(*each)]
        base = [points[0] for points in each]
        found = [self.filled(dict(zip(keys, base, strict=True)))]
        for key, points in zip(keys, each, strict=True):
            found += [self.filled({key: point}, found[0]) for point in points[1:]]
        return found

    def has(self, written: Any) -> bool:
        if type(written) is not type(self.written) or len(written) != len(self.written):
            return False
        parts = dict(self.parts)
        items = written.items() if isinstance(written, dict) else enumerate(written)
        if isinstance(written, dict) and written.keys() != self.written.keys():
            return False
        return all(
            parts[key].has(item) if key in parts else Fixed(self.written[key]).has(item)
            for key, item in items
        )

    def neighbours(self, written: Any) -> list[Any]:
        return [
            self.filled({key: point}, written)
            for key, part in self.parts
            for point in part.neighbours(written[key])
        ]


def _is_number(written: Any) -> bool:
    return isinstance(written, int | float) and not isinstance(written, bool)


def template_of(written: Any) -> Template:
    """Returns the template of a valid domain, value or schedule."""
    if isinstance(written, Mapping):
        if "choices" in written:
            return Choices(tuple(template_of(option) for option in written["choices"]))
        if "uniform" in written:
            body = written["uniform"]
            return Uniform(float(body["low"]), float(body["high"]), body.get("log", False))
        if "int" in written:
            body = written["int"]
            low, high, step = int(body["low"]), int(body["high"]), int(body.get("step", 1))
            return Integers(low, high, step, log=body.get("log", False))
        items: Iterator[tuple[Any, Any]] = iter(sorted(written.items()))
    elif isinstance(written, list) and _holds_domain(written):
        items = enumerate(written)
    else:
        return Fixed(written)
    parts = tuple((key, template_of(item)) for key, item in items)
    parts = tuple((key, part) for key, part in parts if not isinstance(part, Fixed))
    return Assembly(written, parts) if parts else Fixed(written)


def _holds_domain(written: Any) -> bool:
    if isinstance(written, Mapping):
        return bool(DOMAIN_KEYS & written.keys()) or any(map(_holds_domain, written.values()))
    return isinstance(written, list) and any(map(_holds_domain, written))


def some(points: list[Any], most: int) -> list[Any]:
    """Returns at most ``most`` points, including the first and the last."""
    return points if len(points) <= most else [*islice(points, most - 1), points[-1]]
