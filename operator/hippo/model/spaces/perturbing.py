"""The explore step of population-based training: varies hyper-parameters during a trial.

M. Jaderberg et al., "Population based training of neural networks", arXiv:1711.09846, 2017: a
hyper-parameter is resampled from its domain with a given probability, otherwise perturbed.

- A number is multiplied by one of the factors and clipped to its domain. On a grid (integers) it
  becomes the nearest point, but moves by at least one.
- A choice moves to one of its neighbours in the list.
- In a schedule that contains domains, each of these is perturbed; the schedule then starts again,
  as every entry of a ``piecewise`` does.

A varied hyper-parameter is one flat ``piecewise`` whose values are points of the domain. One that
was never varied is such a point itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hippo.model.sequences.numbers import canonical_json
from hippo.model.spaces.domains import Assembly, Choices, Fixed, Template, Uniform
from hippo.model.spaces.sampling import below, rounded, unit
from hippo.model.spaces.space import Space


@dataclass(frozen=True, slots=True)
class Explorer:
    """Varies hyper-parameters by hashes of (seed, index, attempt)."""

    space: Space
    seed: int
    resample: float
    factors: tuple[float, ...]

    def in_force(self, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the point of its domain that each hyper-parameter follows at the end."""
        return {
            name: self._entries(name, hyperparameters[name])[-1][1] for name in self.space.names
        }

    def vary(
        self,
        hyperparameters: Mapping[str, Any],
        step: int,
        index: int,
        *,
        attempt: int = 0,
        afresh: bool = False,
    ) -> dict[str, Any]:
        """Returns hyper-parameters that are unchanged below ``step`` and varied from there on.

        Static ones never change. ``step`` must be greater than all steps at which these were varied
        before. Another ``attempt`` gives another result; ``afresh`` resamples every
        hyper-parameter.
        """
        varied = dict(hyperparameters)
        for name in self.space.names:
            if name in self.space.static:
                continue
            entries = self._entries(name, hyperparameters[name])
            point = entries[-1][1]
            place = f"vary {attempt} {name}"
            domain = self.space.domain(name)
            if afresh or unit(self.seed, index, f"{place} resample") < self.resample:
                new = domain.draw(self.seed, index, place)
            else:
                new = self._perturbed(domain, point, index, place)
            if canonical_json(new) != canonical_json(point):
                varied[name] = {"piecewise": [*entries, [step, new]]}
        return varied

    def _entries(self, name: str, written: Any) -> list[Any]:
        if self.space.domain(name).has(written):
            return [[0, written]]
        entries: list[Any] = written["piecewise"]
        return entries

    def _perturbed(self, domain: Template, point: Any, index: int, place: str) -> Any:
        if isinstance(domain, Fixed):
            return point
        if isinstance(domain, Choices):
            return self._moved(domain, point, index, place)
        if isinstance(domain, Assembly):
            values = {
                key: self._perturbed(part, point[key], index, f"{place}.{key}")
                for key, part in domain.parts
            }
            return domain.filled(values, point)
        factor = self.factors[below(self.seed, index, f"{place} factor", len(self.factors))]
        if domain.size is not None:
            return _on_grid(domain, domain.size, point, factor)
        assert isinstance(domain, Uniform)
        return rounded(point * factor, domain.low, domain.high)

    def _moved(self, domain: Choices, point: Any, index: int, place: str) -> Any:
        here = next(i for i, option in enumerate(domain.options) if option.has(point))
        option = domain.options[here]
        if not isinstance(option, Fixed):
            return self._perturbed(option, point, index, f"{place}[{here}]")
        near = [i for i in (here - 1, here + 1) if 0 <= i < len(domain.options)]
        if not near:
            return point
        there = near[below(self.seed, index, f"{place} neighbour", len(near))]
        return domain.options[there].draw(self.seed, index, f"{place}[{there}]")


def _on_grid(domain: Template, size: int, value: Any, factor: float) -> Any:
    """Returns the point of an ascending grid nearest to the product, moved by at least one."""

    def nearest(target: float) -> int:
        above = bisect_left(range(size), target, key=domain.pick)
        if above == size or (
            above > 0 and target - domain.pick(above - 1) <= domain.pick(above) - target
        ):
            return above - 1
        return above

    here, there = nearest(value), nearest(value * factor)
    if there == here:
        grows = factor > 1 if value >= 0 else factor < 1
        there = min(max(here + (1 if grows else -1), 0), size - 1)
    return domain.pick(there)
