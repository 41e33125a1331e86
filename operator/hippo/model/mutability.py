"""Changes that are allowed in a study after its creation."""

from __future__ import annotations

from hippo.model.errors import InvalidSpec
from hippo.model.signature import signature, signature_document
from hippo.model.study import Study

_FREE = frozenset({"parallelism", "priority", "suspend", "budget", "maxFailedTrials"})


def editable_changes(old: Study, new: Study) -> tuple[str, ...]:
    """Returns the fields of ``spec`` that differ, sorted.

    Raises InvalidSpec naming each field that may not change. Allowed are changes of parallelism,
    priority, suspend, budget and maxFailedTrials; a larger maxTrials (absent means all points); and
    trainer fields on which no result depends.
    """
    errors: list[tuple[str, str]] = []
    if old.name != new.name:
        errors.append(("metadata.name", f"may not change (it was {old.name!r})"))
    before = old.spec.model_dump(mode="json")
    after = new.spec.model_dump(mode="json")
    changed = tuple(sorted(field for field in before if before[field] != after[field]))
    for field in changed:
        if field == "maxTrials":
            earlier, later = old.spec.max_trials, new.spec.max_trials
            if earlier is None or (later is not None and later < earlier):
                was = "was not set, which means all" if earlier is None else f"was {earlier}"
                errors.append(("spec.maxTrials", f"may only grow (it {was})"))
        elif field == "trainer" and _sign(old) == _sign(new):
            continue
        elif field not in _FREE:
            errors.append((f"spec.{field}", "may not change; make another study instead"))
    if errors:
        raise InvalidSpec(errors)
    return changed


def _sign(study: Study) -> str:
    return signature(signature_document(study.spec.trainer, None))
