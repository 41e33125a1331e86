"""Estimates of how long work takes, from what was measured.

The time of a step is kept per *rate class*: the values of those hyper-parameters that are whole
numbers wherever they appear (batch size, width, ...), since these change how much is computed,
while learning rates and the like do not. Without a measurement for a class the plan's mean stands
in; before any, a step costs 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hippo.model import Sequence, Value

RateClass = tuple[tuple[str, Value], ...]

GAP_CHAINS = 32
"""The gap is averaged over about this many of the last chains."""

RELEVEL_RATIO = 1.10
"""Levels are worked out anew only when an estimate has moved by more than this factor."""


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: float = 0.0
    used: float | None = None  # the value that levels are based on at present

    def add(self, total: float, count: float = 1.0) -> None:
        self.total += total
        self.count += count

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None

    def settle(self) -> bool:
        """Adopt the measured mean if it has moved; whether it did."""
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
    """Seconds beside the steps: stated beforehand (simulation) or measured as work goes on."""

    start: float = 0.0
    load: float = 0.0
    save: float = 0.0
    evaluate: float = 0.0


@dataclass(slots=True)
class CostModel:
    """Measured seconds; every estimate is a pure function of what was observed, in any order."""

    step: float = 1.0  # seconds of a step as long as nothing was measured
    overheads: Overheads = field(default_factory=Overheads)
    is_stated: bool = False  # the figures above are given, not guessed
    _steps: _Mean = field(default_factory=_Mean)
    gap: float = 0.0
    """Seconds that a chain takes beside its steps and overheads, of late: its process, writing."""
    _chains: int = 0
    _classes: dict[RateClass, _Mean] = field(default_factory=dict)
    _measured: dict[str, _Mean] = field(default_factory=dict)
    _segments: dict[Sequence, tuple[tuple[int, RateClass], ...]] = field(default_factory=dict)

    def seconds(self, sequence: Sequence, begun: int, end: int) -> float:
        """Training time of the steps ``begun <= t < end``."""
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
        """Seconds per step within a class."""
        mean = self._classes.get(rate_class)
        if mean is not None and mean.used is not None:
            return mean.used
        return self._steps.used if self._steps.used is not None else self.step

    def segments(self, sequence: Sequence) -> tuple[tuple[int, RateClass], ...]:
        """Where the rate class of a sequence changes: (first step, class), ascending."""
        known = self._segments.get(sequence)
        if known is None:
            known = self._segments[sequence] = _rate_segments(sequence)
        return known

    def observe_steps(self, sequence: Sequence, begun: int, end: int, seconds: float) -> None:
        """``seconds`` were spent in training the steps ``begun <= t < end``."""
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
        """Take the mean of an earlier run: ``steps``, of whatever class, took so many seconds."""
        if steps > 0:
            self._steps.add(seconds, steps)

    def observe(self, what: str, seconds: float) -> None:
        """One measured overhead: ``start``, ``load``, ``save`` or ``evaluate``."""
        self._measured.setdefault(what, _Mean()).add(seconds)

    def observe_gap(self, seconds: float) -> None:
        """A chain took so much longer than its steps and overheads. Levels do not count it."""
        self._chains += 1
        weight = 1 / min(self._chains, GAP_CHAINS)
        self.gap += (max(0.0, seconds) - self.gap) * weight

    def settle(self) -> bool:
        """Adopt what has moved by more than a tenth; whether levels must be redone."""
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
        """Whether estimates rest on anything but guesses."""
        return self.is_stated or self._steps.used is not None

    @property
    def switch(self) -> float:
        """Seconds that it costs to hand work to another worker."""
        return self.overheads.start + self.overheads.load

    @property
    def mean_step(self) -> float:
        """Seconds of a step on average over the plan."""
        return self._steps.used if self._steps.used is not None else self.step


def _rate_segments(sequence: Sequence) -> tuple[tuple[int, RateClass], ...]:
    """Cut where a whole-number hyper-parameter changes; others do not count."""
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
