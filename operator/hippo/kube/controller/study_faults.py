"""Studies at fault, which are left out of their plan so that the others go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.status.conditions import set_condition
from hippo.kube.status.models import StudyStatus
from hippo.lifecycles import StudyFault, TrialInTheWay

ADVICE = f"edit it, or set the annotation {names.ANNOTATION_RETRY} to a new value"
"""The remedies for such a study."""


@dataclass(frozen=True, slots=True)
class _Fault:
    generation: int
    retry: str | None
    message: str
    trial: str | None
    """The object in its way: once that is gone, the study goes on by itself."""


class Faults:
    """Faults of one plan's studies, by generation and retry annotation. Outlives reconcilers."""

    def __init__(self) -> None:
        self._found: dict[str, _Fault] = {}  # by uid

    def note(self, item: Accepted, fault: StudyFault) -> None:
        trial = fault.trial if isinstance(fault, TrialInTheWay) else None
        message = f"it cannot go on: {fault.reason}"
        if trial is None:
            message = f"{message}; {ADVICE}"
        self._found[item.uid] = _Fault(item.generation, item.retry, message, trial)

    def forget_trial(self, name: str) -> bool:
        """The Trial is gone; whether it was in the way."""
        freed = [uid for uid, fault in self._found.items() if fault.trial == name]
        for uid in freed:
            del self._found[uid]
        return bool(freed)

    def find(self, item: Accepted) -> str | None:
        """Why a study is left out; forgotten once the study was edited or asks for a retry."""
        fault = self._found.get(item.uid)
        if fault is not None and (fault.generation, fault.retry) != (item.generation, item.retry):
            del self._found[item.uid]
            return None
        return fault.message if fault is not None else None

    def sound(self, studies: Mapping[str, Accepted]) -> dict[str, Accepted]:
        """Those that can go on, as far as is known."""
        return {name: item for name, item in studies.items() if self.find(item) is None}

    def forget_gone(self, studies: Mapping[str, Accepted]) -> bool:
        """Whether one of them was deleted."""
        gone = self._found.keys() - {item.uid for item in studies.values()}
        for uid in gone:
            del self._found[uid]
        return bool(gone)


def suspended(
    status: StudyStatus, item: Accepted, plan: str, message: str, *, now: float
) -> StudyStatus:
    """The status of a study that is left out."""
    changed = status.model_copy()
    changed.phase, changed.message, changed.plan = "Suspended", message, plan
    changed.observed_generation = item.generation
    for type_, is_true in ((names.PROGRESSING, False), (names.SUSPENDED, True)):
        changed.conditions = set_condition(
            changed.conditions,
            type_,
            is_true,
            reason=names.REASON_FAULT,
            message=message,
            now=now,
            generation=item.generation,
        )
    return changed
