"""Names of a plan's blobs, and the way back from a name to its parts."""

from __future__ import annotations

from collections.abc import Iterable

from hippo.protocol.fields import check_component
from hippo.store.blobs import BlobInfo, check_name
from hippo.store.bounds import LONGEST_NUMBER, Kind

PLAN_FOLDERS = ("manifests", "data", "reports", "control", "studies", "ledger", "lock")
"""All folders of a plan; ``plan.json`` and ``spending.json`` lie beside them."""

_LOCK_DIGITS = 8
_FOLDERS = {
    "manifests": Kind.MANIFEST,
    "control": Kind.CONTROL,
    "ledger": Kind.LEDGER,
    "lock": Kind.LOCK,
}
_OF_STUDIES = {"decisions": Kind.DECISION, "requests": Kind.REQUEST, "answers": Kind.ANSWER}


class Layout:
    """Names of all blobs of one plan. Raises ValueError for invalid keys, chains and studies."""

    def __init__(self, plan: str) -> None:
        self._start = self.everything = check_name(plan) + "/"
        self.plan = self._start + "plan.json"
        self.spending = self._start + "spending.json"
        self.manifests = self._start + "manifests/"
        self.data = self._start + "data/"
        self.reports = self._start + "reports/"
        self.studies = self._start + "studies/"
        self.ledger = self._start + "ledger/"
        self.locks = self._start + "lock/"

    def manifest(self, key: str) -> str:
        return f"{self.manifests}{check_component(key)}.json"

    def data_of(self, key: str) -> str:
        """Returns the prefix of all data objects of a key: usually one, two during a race."""
        return f"{self.data}{check_component(key)}/"

    def reports_of(self, chain: str) -> str:
        return f"{self.reports}{check_component(chain)}/"

    def report(self, chain: str, sequence_number: int) -> str:
        return f"{self.reports}{check_component(chain)}/{sequence_number:06d}.json"

    def control(self, chain: str) -> str:
        return f"{self._start}control/{check_component(chain)}.json"

    def study(self, study: str) -> str:
        return f"{self.studies}{check_component(study)}/study.json"

    def decisions_of(self, study: str) -> str:
        return f"{self.studies}{check_component(study)}/decisions/"

    def decision(self, study: str, index: int) -> str:
        return f"{self.decisions_of(study)}{index:06d}.json"

    def requests_of(self, study: str) -> str:
        return f"{self.studies}{check_component(study)}/requests/"

    def answers_of(self, study: str) -> str:
        return f"{self.studies}{check_component(study)}/answers/"

    def ledger_chunk(self, number: int) -> str:
        return f"{self.ledger}{number:06d}.json"

    def lock(self, generation: int) -> str:
        return f"{self.locks}{generation:0{_LOCK_DIGITS}d}.json"

    def generation_of(self, name: str) -> int | None:
        """Returns the generation of the lock with this name; None if Hippo did not write it."""
        return number_of(name, digits=_LOCK_DIGITS)

    def numbered(self, infos: Iterable[BlobInfo]) -> list[BlobInfo]:
        """Returns the numbered records that Hippo wrote; ignores others."""
        return [i for i in infos if self.kind_of(i.name) and number_of(i.name) is not None]

    def kind_of(self, name: str) -> Kind | None:
        """Returns the kind of the record with this name; None for data and unknown names."""
        match name.removeprefix(self._start).split("/"):
            case ["plan.json"]:
                return Kind.PLAN
            case ["spending.json"]:
                return Kind.SPENDING
            case ["studies", _, "study.json"]:
                return Kind.STUDY
            case ["studies", _, ("decisions" | "requests" | "answers") as folder, _]:
                return _OF_STUDIES[folder]
            case ["reports", _, _]:
                return Kind.REPORT
            case [("manifests" | "control" | "ledger" | "lock") as folder, _]:
                return _FOLDERS[folder]
            case _:
                return None


def number_of(name: str, *, digits: int = 6) -> int | None:
    """Returns the number at the end of a blob's name; None if Hippo would not have written it so.

    Hippo pads it with zeros to ``digits`` digits, and writes at most LONGEST_NUMBER.
    """
    stem, dot, suffix = name.rpartition("/")[2].partition(".")
    if dot + suffix != ".json" or not stem.isascii() or not stem.isdigit():
        return None
    if not digits <= len(stem) <= LONGEST_NUMBER:
        return None
    return int(stem) if len(stem) == digits or stem[0] != "0" else None
