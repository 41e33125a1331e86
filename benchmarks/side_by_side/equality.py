"""It is the same work only if every configuration ends with the same metrics, to the last bit."""

from __future__ import annotations

from benchmarks.side_by_side.systems import Metrics


class NotTheSameError(Exception):
    """Two runs disagree; names the configuration."""


class Agreement:
    """The metrics of the first run of a work, against which every other one is held."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, Metrics]] = {}

    def check(self, work: str, run: str, metrics: Metrics) -> None:
        """Raises NotTheSameError."""
        first_run, first = self._first.setdefault(work, (run, metrics))
        if not metrics:
            raise NotTheSameError(f"{work}: {run} has no results")
        for configuration in sorted(first.keys() | metrics.keys()):
            expected, found = first.get(configuration), metrics.get(configuration)
            if expected is None or found is None:
                lacking = first_run if expected is None else run
                raise NotTheSameError(f"{work}: {lacking} has no result for {configuration}")
            if expected != found or None in found.values():
                raise NotTheSameError(
                    f"{work}: {configuration} has {expected} in {first_run}, {found} in {run}"
                )
