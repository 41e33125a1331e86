"""The search space: the domain of each hyper-parameter's values and schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from hippo.model.caching import ByteCache
from hippo.model.errors import InvalidSpec
from hippo.model.sequences.canonical import Runs
from hippo.model.sequences.numbers import canonical_json, cell_text, plain
from hippo.model.sequences.sequence import Sequence, runs_of
from hippo.model.spaces.dimensions import Dimension, Value, assemble, coordinates, dimensions
from hippo.model.spaces.domain_reader import read_space
from hippo.model.spaces.domains import Template, template_of
from hippo.model.spaces.redrawing import quantized, redrawn
from hippo.model.spaces.sampling import MAX_PERMUTED, below, permuted

NOT_ENUMERABLE = (
    "is continuous, so that grid cannot enumerate it; "
    "list choices instead, or use another algorithm, such as random"
)


POINTS_BYTES, FORKS_BYTES = 64 << 20, 16 << 20
"""Memory of the caches of representatives and of fork steps."""
_ENTRY_BYTES = 100


class Space:
    """The product of the domains. Immutable.

    ``names`` are sorted; ``size`` is the number of points, or None if a domain is continuous.
    """

    def __init__(self, written: Mapping[str, Any]) -> None:
        """``written`` must be valid; ``Space.of`` validates it."""
        self.names: tuple[str, ...] = tuple(sorted(written))
        self.static: frozenset[str] = frozenset(
            name for name in self.names if written[name].get("static", False)
        )
        """Hyper-parameters that never change within a trial."""
        self._domains = {name: template_of(written[name]) for name in self.names}
        self.size: int | None = 1
        for domain in self._domains.values():
            self.size = (
                None if self.size is None or domain.size is None else self.size * domain.size
            )
        self._weighted = any(domain.is_weighted for domain in self._domains.values())
        self._distinct: dict[int, _DistinctDraws] = {}
        self._points: ByteCache[tuple[str, int], dict[str, list[Runs]]] = ByteCache(POINTS_BYTES)
        self._forks: ByteCache[tuple[str, bytes, int], frozenset[int]] = ByteCache(FORKS_BYTES)

    @property
    def continuous(self) -> tuple[str, ...]:
        """Names of hyper-parameters without a finite number of points."""
        return tuple(name for name in self.names if self._domains[name].size is None)

    def domain(self, name: str) -> Template:
        """Returns the domain of a hyper-parameter.

        Raises KeyError if there is none of that name.
        """
        return self._domains[name]

    @classmethod
    def of(cls, written: Mapping[str, Any], steps: int, *, path: str = "spec.space") -> Space:
        """Reads a written space, with schedules expanded over ``steps``. Raises InvalidSpec."""
        read_space(written, steps, path)
        return cls(plain(written))

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """Iterates over all points: names sorted, the last varying fastest.

        Raises InvalidSpec if the space is continuous.
        """
        if self.size is None:
            raise InvalidSpec((name, NOT_ENUMERABLE) for name in self.continuous)
        return map(self.pick, range(self.size))

    def pick(self, index: int) -> dict[str, Any]:
        """Returns the index-th point of ``enumerate``."""
        picked: dict[str, Any] = {}
        for name in reversed(self.names):
            domain = self._domains[name]
            assert domain.size is not None
            index, own = divmod(index, domain.size)
            picked[name] = domain.pick(own)
        return {name: picked[name] for name in self.names}

    def sample(self, seed: int, index: int) -> dict[str, Any]:
        """Returns the index-th random point, a function of (seed, index) alone.

        Finite spaces are drawn without replacement, except those larger than MAX_PERMUTED, where
        repetitions are negligible. Raises IndexError when all points are drawn. Numbers of
        continuous domains have 6 significant digits.
        """
        if self.size is None or self.size > MAX_PERMUTED:
            return self.draw(seed, index)
        if not 0 <= index < self.size:
            raise IndexError(f"the space has {self.size} points; there is no draw {index}")
        if self._weighted:
            return self._draw_distinct(seed, index)
        return self.pick(permuted(seed, index, self.size))

    def draw(self, seed: int, index: int) -> dict[str, Any]:
        """Returns a random point, independent of other draws."""
        return {name: self._domains[name].draw(seed, index, name) for name in self.names}

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:
        """All values to choose."""
        return tuple(
            dimension for name in self.names for dimension in dimensions(self._domains[name], name)
        )

    def assemble(self, choose: Callable[[Dimension], Value]) -> dict[str, Any]:
        """Returns the point that ``choose`` selects; it is called for each dimension met."""
        return {name: assemble(self._domains[name], name, choose) for name in self.names}

    def coordinates(self, point: Mapping[str, Any]) -> dict[str, Value]:
        """Returns the coordinates of a point, by path.

        Raises ValueError if the space lacks the point.
        """
        return {
            path: value
            for name in self.names
            for path, value in coordinates(self._domains[name], name, point[name])
        }

    def quantized(self, point: Mapping[str, Any], levels: int) -> dict[str, Any]:
        """Returns the point with at most ``levels`` numbers of each range, so that values coincide.

        Each range is split into equal parts (on a logarithmic scale if it has one), and a number is
        moved to the middle of its part.
        """
        return {name: quantized(self._domains[name], point[name], levels) for name in self.names}

    def redraw(
        self, point: Mapping[str, Any], seed: int, index: int, *, levels: int
    ) -> dict[str, Any]:
        """Returns the point, maybe unchanged, with one place drawn again and quantized.

        A place is the position of a domain, also within a schedule. It is drawn too: first the
        hyper-parameter, with equal probabilities. The result depends only on the arguments.
        """
        names = [name for name in self.names if self._domains[name].size != 1]
        if not names:
            return dict(point)
        name = names[below(seed, index, "redrawn", len(names))]
        place = f"redrawn {name}"

        def draw(domain: Template) -> Any:
            if self.size is None or self._weighted:
                value = domain.draw(seed, index, place)
            else:  # as in ``sample``, all points are equally likely, not all choices
                assert domain.size is not None
                value = domain.pick(below(seed, index, place, domain.size))
            return quantized(domain, value, levels)

        def choose(label: str, bound: int) -> int:
            return below(seed, index, f"{place}{label}", bound)

        return {**point, name: redrawn(self._domains[name], point[name], draw, choose)}

    def _draw_distinct(self, seed: int, index: int) -> dict[str, Any]:
        draws = self._distinct.get(seed)
        if draws is None:
            draws = self._distinct[seed] = _DistinctDraws(self, seed)
        return draws.point(index)

    def fork_steps(self, sequence: Sequence) -> tuple[int, ...]:
        """Returns ascending steps, 0 < s < sequence.steps, where another point may diverge from it.

        Exact for finite domains of up to some hundreds of points within one choice. A continuous
        domain is represented by a few points, so a point that coincides with the sequence by chance
        may diverge elsewhere.
        """
        steps: set[int] = set()
        for name in self.names:
            if name in sequence.names:
                steps |= self._forks_of(name, sequence)
        return tuple(sorted(steps))

    def _forks_of(self, name: str, sequence: Sequence) -> frozenset[int]:
        runs = sequence.runs(name)
        cached = self._forks.get((name, runs.digests[-1], runs.horizon))
        if cached is not None:
            return cached
        domain = self._domains[name]
        own: list[Runs] = []
        if domain.is_nested:
            written = sequence.hyperparameters[name]
            own = [self._runs(name, point, runs.horizon) for point in domain.neighbours(written)]
        candidates = own + self._representatives(name, runs.horizon).get(cell_text(runs.at(0)), [])
        agreements = {runs.agreement(other) for other in candidates}
        found = frozenset(step for step in agreements if 0 < step < runs.horizon)
        size = _ENTRY_BYTES * (1 + len(found))
        self._forks.put((name, runs.digests[-1], runs.horizon), found, size)
        return found

    def _representatives(self, name: str, steps: int) -> dict[str, list[Runs]]:
        """Returns the runs of a domain's representatives, by their value at step 0."""
        cached = self._points.get((name, steps))
        if cached is None:
            cached, size = {}, 0
            for point in self._domains[name].representatives():
                runs = self._runs(name, point, steps)
                cached.setdefault(cell_text(runs.at(0)), []).append(runs)
                size += runs.size
            self._points.put((name, steps), cached, size)
        return cached

    def _runs(self, name: str, written: Any, steps: int) -> Runs:
        return runs_of(written, steps, path=name)


class _DistinctDraws:
    """Draws without replacement from points that are not equally likely, in order."""

    _PATIENCE = 64
    """Consecutive repetitions after which any point not yet drawn is taken."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._points: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._tried = self._passed = 0

    def point(self, index: int) -> dict[str, Any]:
        while len(self._points) <= index:
            self._points.append(self._next())
        return dict(self._points[index])

    def _next(self) -> dict[str, Any]:
        space, seed = self._space, self._seed
        for _ in range(self._PATIENCE):
            point = space.draw(seed, self._tried)
            self._tried += 1
            if self._is_new(point):
                return point
        assert space.size is not None
        while True:
            point = space.pick(permuted(seed, self._passed, space.size))
            self._passed += 1
            if self._is_new(point):
                return point

    def _is_new(self, point: dict[str, Any]) -> bool:
        text = canonical_json(point)
        if text in self._seen:
            return False
        self._seen.add(text)
        return True
