"""Where a plan keeps what: the names of its blobs, and the way back from a name to its parts."""

from __future__ import annotations

from hippo.store.blobs import check_component, check_name

PLAN_FOLDERS = ("manifests", "data", "reports", "control", "studies", "ledger", "lock")
"""All that a plan has beside its ``plan.json``."""


class Layout:
    """Names of all blobs of one plan. ValueError for a key, chain or study unfit for a name."""

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
        """Prefix of all data objects of a key: usually one, two while writers compete."""
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
        return f"{self.locks}{generation:08d}.json"


def number_of(name: str) -> int | None:
    """The number that a numbered blob's name ends with; None if it has none."""
    stem = name.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isascii() and stem.isdigit() else None
