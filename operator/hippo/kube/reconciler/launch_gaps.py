"""How long places of workers stand empty: from a chain's last step to the pod in its place."""

from __future__ import annotations

from collections.abc import Callable


class LaunchGaps:
    """``note_gap`` is told each gap; ``clock`` and all moments are in seconds."""

    def __init__(self, note_gap: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._note_gap = note_gap
        self._clock = clock
        self._free_since: list[float] = []

    def note_end(self, moment: float) -> None:
        """A chain has ended, which trained last at this moment."""
        self._free_since.append(moment)

    def note_launch(self, pods: int) -> None:
        """Pods were created: each takes the place of the chain that has been gone for longest."""
        self._free_since.sort()
        for since in self._free_since[:pods]:
            self._note_gap(max(0.0, self._clock() - since))
        del self._free_since[:pods]

    def forget(self) -> None:
        """A round is over: there was nothing to launch in places that are still empty."""
        self._free_since.clear()
