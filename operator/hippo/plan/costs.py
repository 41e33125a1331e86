"""Estimates of durations, from measurements.

The time of a step is kept per *rate class*: the values of the hyper-parameters that are whole
numbers wherever they appear (batch size, width, ...). These change how much is computed, while
learning rates and the like do not. A class without measurements is estimated by the plan's mean;
before any measurement, a step costs 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hippo.model import Sequence, Value

RateClass = tuple[tuple[str, Value], ...]

GAP_CHAINS = 32
"""The gap is averaged over about this many recent chains."""

RELEVEL_RATIO = 1.10
"""Ratio by which an estimate must move before levels are recomputed."""


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: float = 0.0
    used: float | None = None  # the value on which current levels are based

    def add(self, total: float, count: float = 1.0) -> None:
        self.total += total
        self.count += count

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None

    def settle(self) -> bool:
        """Adopts the measured mean if it has moved; returns whether it has."""
        value = self.value
        if value is None or (
            self.used is not None
            and max(value, self.used) <= min(value, self.used) * RELEVEL_RATIO + 1e-9
        ):
            return False
        self.used = value
        return True


@dataclass(slots=True)
class Overheads:
    """Seconds spent besides training steps: given (in a simulation) or measured."""

    start: float = 0.0
    load: float = 0.0
    save: float = 0.0
    evaluate: float = 0.0


@dataclass(slots=True)
class CostModel:
    """Estimates in seconds from measurements, independent of their order."""

    step: float = 1.0  # seconds per step before any measurement
    overheads: Overheads = field(default_factory=Overheads)
    is_stated: bool = False  # the figures above are given, not guesses
    _steps: _Mean = field(default_factory=_Mean)
    gap: float = 0.0
    """Recent seconds per chain besides its steps and overheads, such as process start and
    writing."""
    _chains: int = 0
    _classes: dict[RateClass, _Mean] = field(default_factory=dict)
    _measured: dict[str, _Mean] = field(default_factory=dict)
    _segments: dict[Sequence, tuple[tuple[int, RateClass], ...]] = field(default_factory=dict)

    def seconds(self, sequence: Sequence, begun: int, end: int) -> float:
        """Returns the training time of the steps ``begun <= t < end``."""
        if end <= begun:
            return 0.0
        segments = self.segments(sequence)
        if len(segments) == 1:
            return (end - begun) * self.rate(segments[0][1])
        total = 0.0
        for index, (start, rate_class) in enumerate(segments):
            stop = segments[index + 1][0] if index + 1 < len(segments) else end
            shared = min(stop, end) - max(start, begun)
            if shared > 0:
                total += shared * self.rate(rate_class)
        return total

    def rate(self, rate_class: RateClass) -> float:
        """Returns the seconds per step of a class."""
        mean = self._classes.get(rate_class)
        if mean is not None and mean.used is not None:
            return mean.used
        return self._steps.used if self._steps.used is not None else self.step

    def segments(self, sequence: Sequence) -> tuple[tuple[int, RateClass], ...]:
        """Returns the (first step, rate class) segments of a sequence, ascending."""
        known = self._segments.get(sequence)
        if known is None:
            known = self._segments[sequence] = _rate_segments(sequence)
        return known

    def observe_steps(self, sequence: Sequence, begun: int, end: int, seconds: float) -> None:
        """Records that training the steps ``begun <= t < end`` took ``seconds``."""
        if end <= begun or seconds <= 0:
            return
        self._steps.add(seconds, end - begun)
        classes = {
            rate_class
            for index, (start, rate_class) in enumerate(self.segments(sequence))
            if start < end
            and (
                index + 1 == len(self.segments(sequence))
                or self.segments(sequence)[index + 1][0] > begun
            )
        }
        if len(classes) == 1:
            self._classes.setdefault(classes.pop(), _Mean()).add(seconds, end - begun)

    def observe_mean(self, steps: int, seconds: float) -> None:
        """Records an earlier run's total: ``steps`` steps of any class took ``seconds``."""
        if steps > 0:
            self._steps.add(seconds, steps)

    def observe(self, what: str, seconds: float) -> None:
        """Records one measured overhead: ``start``, ``load``, ``save`` or ``evaluate``."""
        self._measured.setdefault(what, _Mean()).add(seconds)

    def observe_gap(self, seconds: float) -> None:
        """Records the seconds that a chain took besides its steps and overheads.

        Levels ignore them.
        """
        self._chains += 1
        weight = 1 / min(self._chains, GAP_CHAINS)
        self.gap += (max(0.0, seconds) - self.gap) * weight

    def settle(self) -> bool:
        """Adopts estimates that moved by over a tenth; returns whether to recompute levels."""
        moved = self._steps.settle()
        for mean in self._classes.values():
            moved = mean.settle() or moved
        for what, mean in self._measured.items():
            if mean.settle():
                assert mean.used is not None
                setattr(self.overheads, what, mean.used)
                moved = True
        return moved

    @property
    def is_known(self) -> bool:
        """Whether estimates are given or measured rather than guessed."""
        return self.is_stated or self._steps.used is not None

    @property
    def switch(self) -> float:
        """Seconds to hand work to another worker."""
        return self.overheads.start + self.overheads.load

    @property
    def mean_step(self) -> float:
        """Mean seconds per step over the plan."""
        return self._steps.used if self._steps.used is not None else self.step


def _rate_segments(sequence: Sequence) -> tuple[tuple[int, RateClass], ...]:
    """Cuts a sequence where a whole-number hyper-parameter changes; others are ignored."""
    changes: dict[int, dict[str, Value]] = {0: {}}
    for name in sequence.names:
        runs = sequence.run_starts(name)
        if runs is None or not all(
            isinstance(value, int | str) and not isinstance(value, bool) for _, value in runs
        ):
            continue
        for start, value in runs:
            changes.setdefault(start, {})[name] = value
    segments: list[tuple[int, RateClass]] = []
    current: dict[str, Value] = {}
    for start in sorted(changes):
        current = {**current, **changes[start]}
        segments.append((start, tuple(sorted(current.items()))))
    return tuple(segments)
