"""Which studies ask for the work of a path or of a running chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hippo.engine.state import StudyRun
from hippo.plan import Claim, Head, Node


class Askers:
    """Looks into the plan; only studies that are active count as askers."""

    def __init__(self, studies: Mapping[str, StudyRun]) -> None:
        self._studies = studies

    def of_path(self, head: Head) -> tuple[str, ...]:
        """The studies that ask for the path that begins here, and share its cost."""
        return self._active(name for _, _, name in head.demand.leads)

    def beyond(self, claim: Claim, step: int) -> tuple[str, ...]:
        """The studies that ask for anything after ``step`` on a chain's way, or behind it."""
        names: set[str] = set()
        for node in claim.nodes():
            if node.end <= step:
                break
            names.update(_askers_in(node, step + 1))
            if node.demanding is not None and node.end <= claim.stop_at:
                names.update(study for _, _, study in node.demanding.leads)
        return self._active(names)

    def since(self, claim: Claim, step: int) -> tuple[str, ...]:
        """The same, and those that ask for what is still due at ``step`` or for what a next route
        may lead to.
        """
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
    """The studies that ask for metrics of a node at ``first`` or after it."""
    return {s for step, want in node.wants.items() if step >= first for s, _ in want.trials}
