"""Points made from points: another value in one place, and fewer values in all places.

A place is where a domain stands: a hyper-parameter, or a part of one of its schedules. Points that
differ in one place are alike up to the step at which that place takes effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hippo.model.spaces.domains import Assembly, Choices, Fixed, Integers, Template, Uniform

Draw = Callable[[Template], Any]


def redrawn(
    template: Template, written: Any, draw: Draw, below: Callable[[str, int], int], path: str = ""
) -> Any:
    """The point with another draw in one place; maybe the same point.

    ``below(label, n)`` is a random number from 0 to n - 1. Which place it is, is drawn so that it
    does not depend on what stands there: a redrawn draw is distributed like a draw, if ``draw``
    is what the point was drawn by (a step of Gibbs sampling).
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
    """The point with every number of a range that has more than ``levels`` values brought to one of
    so many, at equal distances by the range's scale. Choices stay as they are.
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
    """The first option that has this point."""
    return next((option for option in template.options if option.has(written)), Fixed(written))
