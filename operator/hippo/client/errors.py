"""Errors that only the client raises."""

from __future__ import annotations


class Refused(Exception):
    """A request will not be carried out. The message is one line that says why."""


class Closed(Refused):
    """This client has closed the study, and accepts no more requests."""


class StudyEnded(Exception):
    """The study has ended, and will not answer any more."""
