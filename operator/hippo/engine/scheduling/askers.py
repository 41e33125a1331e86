"""Finds the studies that want the work of a path or of a running chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hippo.engine.state import StudyRun
from hippo.plan import Claim, Head, Node


class Askers:
    """Reads the search plan; only active studies count."""

    def __init__(self, studies: Mapping[str, StudyRun]) -> None:
        self._studies = studies

    def of_path(self, head: Head) -> tuple[str, ...]:
        """Returns the studies that want the path of a head, and share its cost."""
        return self._active(name for _, _, name in head.demand.leads)

    def beyond(self, claim: Claim, step: int) -> tuple[str, ...]:
        """Returns the studies that want anything after ``step`` on or below a chain's route."""
        names: set[str] = set()
        for node in claim.nodes():
            if node.end <= step:
                break
            names.update(_askers_in(node, step + 1))
            if node.demanding is not None and node.end <= claim.stop_at:
                names.update(study for _, _, study in node.demanding.leads)
        return self._active(names)

    def since(self, claim: Claim, step: int) -> tuple[str, ...]:
        """Like ``beyond``, with those that want what is due at ``step`` or follows the route."""
        names: set[str] = set()
        for node in claim.nodes():
            if node.end < step:
                break
            names.update(_askers_in(node, step))
            is_due = node.end > step or node.end not in node.checkpoints
            if node.demanding is not None and (is_due or step == claim.stop_at):
                names.update(study for _, _, study in node.demanding.leads)
        return self._active(names)

    def _active(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({name for name in names if self._studies[name].is_active}))


def _askers_in(node: Node, first: int) -> set[str]:
    """Returns the studies that want metrics of a node at or after ``first``."""
    return {s for step, want in node.wants.items() if step >= first for s, _ in want.trials}
