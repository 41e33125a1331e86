"""Durations of steps: by the values in force, with optional noise."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from hippo.model import Sequence, Value
from hippo.plan import CostModel

StepSeconds = Callable[[Mapping[str, Value]], float]
"""Returns the seconds of a step under these values. It is called once per rate class (see
``plan/costs.py``), so only hyper-parameters that are always whole numbers or text may matter.
"""

_CLOSE = 1e-9
"""Tolerance, in steps, for comparing sums of step times."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive steps, and when each of them ends.

    ``steps[i]`` ends ``seconds[i]`` after the start; in between, all steps take equally long.
    """

    steps: list[int]
    seconds: list[float]

    def seconds_until(self, step: int) -> float:
        """Returns the seconds from the start to the end of all steps below ``step``."""
        index = bisect_left(self.steps, step)
        if self.steps[index] == step:
            return self.seconds[index]
        before = index - 1
        done = step - self.steps[before]
        return self.seconds[before] + done * self._pace(before)

    def first_end(self, seconds: float) -> int:
        """Returns the first step that ends at or after this moment, or the last step."""
        index = bisect_right(self.seconds, seconds) - 1
        if index == len(self.steps) - 1:
            return self.steps[-1]
        into = (seconds - self.seconds[index]) / self._pace(index)
        return self.steps[index] + math.ceil(into - _CLOSE)

    def _pace(self, index: int) -> float:
        """Returns the seconds per step after ``steps[index]``."""
        steps = self.steps[index + 1] - self.steps[index]
        return (self.seconds[index + 1] - self.seconds[index]) / steps


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds per step: ``step``, or what ``by_values`` returns.

    With ``noise``, each step is scaled by a factor exp(x), where x is normal with this standard
    deviation, shifted so that the factor's mean is 1.
    """

    step: float = 1.0
    by_values: StepSeconds | None = None
    noise: float = 0.0
    seed: int = 0

    def stretch(self, chain: str, sequence: Sequence, start: int, stop: int) -> Stretch:
        """Returns the steps ``start <= t < stop`` of a chain."""
        cuts = [start, *(step for step, _ in self._segments(sequence) if start < step < stop), stop]
        steps, seconds = [start], [0.0]
        for begun, end in pairwise(cuts):
            rate = self.step if self.by_values is None else self.by_values(sequence.values(begun))
            if self.noise:
                for step in range(begun, end):
                    steps.append(step + 1)
                    seconds.append(seconds[-1] + rate * self._factor(chain, step))
            else:
                steps.append(end)
                seconds.append(seconds[-1] + (end - begun) * rate)
        return Stretch(steps, seconds)

    def _segments(self, sequence: Sequence) -> tuple[tuple[int, object], ...]:
        return CostModel().segments(sequence) if self.by_values is not None else ()

    def _factor(self, chain: str, step: int) -> float:
        digest = hashlib.sha256(f"pace {self.seed} {chain} {step}".encode()).digest()
        one = (int.from_bytes(digest[:8]) + 1) / (2**64 + 2)
        other = int.from_bytes(digest[8:16]) / 2**64
        normal = math.sqrt(-2 * math.log(one)) * math.cos(2 * math.pi * other)  # Box-Muller
        return math.exp(self.noise * normal - self.noise**2 / 2)
