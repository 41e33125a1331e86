"""A space as a set of numeric dimensions, for optimizers that only know numbers.

Every choice and range of a space has a path. A point is assembled from one value per dimension that
it has, and can be read back into these values (its coordinates). A dimension inside one option of a
choice is *conditional*: points with another option do not have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hippo.model.spaces.domains import Assembly, Choices, Fixed, Integers, Template, Uniform
from hippo.model.spaces.sampling import below, rounded

Value = int | float
"""The index of an option for choices, otherwise the number itself."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One value to choose; ``path`` is unique within the space."""

    path: str
    template: Choices | Integers | Uniform
    is_conditional: bool

    @property
    def size(self) -> int | None:
        """Number of values; None if continuous."""
        if isinstance(self.template, Choices):
            return len(self.template.options)
        return self.template.size

    def draw(self, seed: int, index: int) -> Value:
        """Returns a random value that depends only on the arguments and the path."""
        if isinstance(self.template, Choices):
            return below(seed, index, self.path, len(self.template.options))
        return self.template.draw(seed, index, self.path)

    def admit(self, value: Value) -> Value:
        """Returns the nearest valid value; fractions are rounded to 6 significant digits."""
        template = self.template
        if isinstance(template, Uniform):
            return rounded(float(value), template.low, template.high)
        last = (len(template.options) if isinstance(template, Choices) else template.size) - 1
        low, step = (template.low, template.step) if isinstance(template, Integers) else (0, 1)
        return low + step * min(max(round((value - low) / step), 0), last)

    @property
    def is_extreme(self) -> bool:
        """Whether optimizers should see positions in [0, 1] instead of such extreme numbers."""
        return not isinstance(self.template, Choices) and self.template.is_extreme

    def inward(self, value: Value) -> Value:
        """Converts a value to what an optimizer sees: its position if the dimension is extreme."""
        if isinstance(self.template, Choices) or not self.template.is_extreme:
            return value
        return self.template.position(value)

    def outward(self, value: Value) -> Value:
        """Converts what an optimizer sees back to a value."""
        if isinstance(self.template, Choices) or not self.template.is_extreme:
            return value
        return self.template.at(min(max(float(value), 0.0), 1.0))

    @property
    def middle(self) -> Value:
        """A neutral value: the centre of a range, the first option of a choice."""
        template = self.template
        if isinstance(template, Choices):
            return 0
        if template.log:
            return self.admit(math.sqrt(template.low) * math.sqrt(template.high))
        return self.admit(template.low / 2 + template.high / 2)


def dimensions(template: Template, path: str, *, conditional: bool = False) -> Iterator[Dimension]:
    """Yields all dimensions of a template, those of options after their choice."""
    match template:
        case Choices(options=options):
            if len(options) > 1:
                yield Dimension(path, template, conditional)
            for index, option in enumerate(options):
                yield from dimensions(
                    option, f"{path}[{index}]", conditional=conditional or len(options) > 1
                )
        case Integers(size=1):
            pass
        case Uniform() | Integers():
            yield Dimension(path, template, conditional)
        case Assembly(parts=parts):
            for key, part in parts:
                yield from dimensions(part, f"{path}.{key}", conditional=conditional)


def assemble(
    template: Template,
    path: str,
    choose: Callable[[Dimension], Value],
    *,
    conditional: bool = False,
) -> Any:
    """Returns the point, as written, that ``choose`` selects; it is called per dimension met."""
    match template:
        case Choices(options=options):
            index = 0
            if len(options) > 1:
                dimension = Dimension(path, template, conditional)
                index = int(dimension.admit(choose(dimension)))
            inner = conditional or len(options) > 1
            return assemble(options[index], f"{path}[{index}]", choose, conditional=inner)
        case Uniform() | Integers() if template.size != 1:
            dimension = Dimension(path, template, conditional)
            return dimension.admit(choose(dimension))
        case Assembly(parts=parts):
            return template.filled(
                {
                    key: assemble(part, f"{path}.{key}", choose, conditional=conditional)
                    for key, part in parts
                }
            )
        case _:
            return template.pick(0)


def coordinates(template: Template, path: str, written: Any) -> Iterator[tuple[str, Value]]:
    """Yields the (path, value) pairs of a point.

    Raises ValueError if it is none of the template.
    """
    match template:
        case Choices(options=options):
            index = next((k for k, option in enumerate(options) if option.has(written)), None)
            if index is None:
                raise ValueError(f"{path}: none of the choices")
            if len(options) > 1:
                yield path, index
            yield from coordinates(options[index], f"{path}[{index}]", written)
        case Uniform() | Integers():
            if not template.has(written):
                raise ValueError(f"{path}: outside the range")
            if template.size != 1:
                yield path, written
        case Assembly(parts=parts):
            for key, part in parts:
                yield from coordinates(part, f"{path}.{key}", written[key])
        case Fixed():
            pass
