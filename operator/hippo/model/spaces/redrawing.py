"""Points derived from points: one place redrawn, or all numbers quantized.

A place is the position of a domain: a hyper-parameter, or a part of one of its schedules. Points
that differ in one place are equal up to the step at which that place takes effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hippo.model.spaces.domains import Assembly, Choices, Fixed, Integers, Template, Uniform

Draw = Callable[[Template], Any]


def redrawn(
    template: Template, written: Any, draw: Draw, below: Callable[[str, int], int], path: str = ""
) -> Any:
    """Returns the point with one place drawn again; the result may be the same point.

    ``below(label, n)`` is a random number from 0 to n - 1. The choice of the place does not depend
    on its value, so a redrawn draw is distributed like a draw if ``draw`` also drew the point (a
    step of Gibbs sampling).
    """
    match template:
        case Uniform() | Integers():
            return draw(template)
        case Choices():
            has_others = len(template.options) > 1
            if has_others and not (template.is_nested and below(f"{path} or within", 2)):
                return draw(template)
            return redrawn(_option_of(template, written), written, draw, below, f"{path}[]")
        case Assembly():
            key, part = template.parts[below(f"{path} part", len(template.parts))]
            filled = written.copy()
            filled[key] = redrawn(part, written[key], draw, below, f"{path}.{key}")
            return filled
        case _:
            return written


def quantized(template: Template, written: Any, levels: int) -> Any:
    """Returns the point with the numbers of large ranges rounded to one of ``levels`` values.

    Levels are evenly spaced on the range's scale. Ranges with fewer values and choices are
    unchanged.
    """
    match template:
        case Uniform() | Integers():
            return template.nearest_level(written, levels)
        case Choices():
            return quantized(_option_of(template, written), written, levels)
        case Assembly():
            filled = written.copy()
            for key, part in template.parts:
                filled[key] = quantized(part, written[key], levels)
            return filled
        case _:
            return written


def _option_of(template: Choices, written: Any) -> Template:
    """Returns the first option that has this point."""
    return next((option for option in template.options if option.has(written)), Fixed(written))
