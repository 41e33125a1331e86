"""Starts the studies of a run: new, unfinished and ended ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hippo.engine.events import StudyAdded
from hippo.engine.reopening import LOCAL
from hippo.local.options import Observer, RunOptions
from hippo.model import InvalidSpec, Study
from hippo.session.followed import has_other_trials
from hippo.session.open_plan import OpenPlan


@dataclass(slots=True)
class StudyStarts:
    """Admits the studies of a run to its open plan."""

    plan: OpenPlan
    options: RunOptions
    observer: Observer
    stay_ended: set[str] = field(default_factory=set)
    """Studies that had ended before and are not resumed; the observer was notified."""

    def admit(self, studies: Iterable[Study]) -> list[StudyAdded]:
        """Return the event for each study, and record new studies in the store.

        Raises InvalidSpec, StoreError.
        """
        added = [self._admit(study) for study in studies]
        session = self.plan.session
        for event in added:
            name = event.study.name
            if name in session.documents:
                continue
            changed = session.differences_to_earlier(name)
            if changed:
                self.observer.notified(
                    f"begun afresh: the trainer's {', '.join(changed)} changed since it was"
                    " worked on last",
                    name,
                )
            if name in session.forgotten:
                self.observer.notified("begun afresh: it had been deleted", name)
            session.write_study(event.study, None)
        return added

    def _admit(self, study: Study) -> StudyAdded:
        event = self._reconsider(study)
        followed = self.options.followed.get(study.name, ())
        if followed and has_other_trials(event.decisions, followed):
            raise InvalidSpec.at(
                "--like", f"{study.name} has drawn other trials here before: use another --store"
            )
        return replace(event, followed=followed)

    def _reconsider(self, study: Study) -> StudyAdded:
        """Return the study as stored; an ended one is resumed if its limits now allow it."""
        session, name = self.plan.session, study.name
        event = self.plan.admit(study)
        verdict = session.reconsider(
            event,
            study,
            decisions=event.decisions,
            retry=self.options.retry_failed,
            advice=LOCAL,
        )
        if verdict is None or (event.ended is None and not verdict.goes_on):
            if self.options.retry_failed:
                self.observer.notified("no trial of it has failed that could be tried again", name)
            return event
        if not verdict.goes_on:
            self.stay_ended.add(name)
            self.observer.notified(f"it had ended: {verdict.why}", name)
            return event
        for decision in verdict.decisions:
            session.store.write_decision(name, decision)
        self.observer.notified(verdict.why, name)
        return session.reopen(event, study, (*event.decisions, *verdict.decisions))
