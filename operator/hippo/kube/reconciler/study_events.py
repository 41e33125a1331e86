"""Events on the studies of one plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hippo.kube import names
from hippo.kube.accepted_study import Accepted


@dataclass(slots=True)
class _Failure:
    """A chain's failure of which the engine is told."""

    chain: str
    message: str
    is_told: bool = False


class StudyEvents:
    """Warns whoever looks at a study."""

    def __init__(
        self,
        studies: Mapping[str, Accepted],
        post: Callable[[Mapping[str, Any], str, str, bool], None],
    ) -> None:
        """``studies`` are those of the plan as they come and go; ``post`` posts an Event."""
        self._studies = studies
        self._post = post
        self._failure: _Failure | None = None

    def warn(self, study: str | None, reason: str, message: str) -> None:
        """Post a warning on a study; on all of them for None."""
        failure = self._failure
        if reason == names.REASON_NOTICE and failure and message.startswith(failure.message):
            reason, message = names.REASON_CHAIN_FAILED, f"{failure.chain}: {message}"
            failure.is_told = True
        for name in [study] if study is not None else list(self._studies):
            if name in self._studies:
                self._post(self._studies[name].document, reason, message, True)

    @contextmanager
    def failure(self, study: str, chain: str, message: str) -> Iterator[None]:
        """While the engine is told of a chain's failure: what it says of that and the failure go
        into one Event.
        """
        failure = self._failure = _Failure(chain, message)
        yield
        self._failure = None
        if not failure.is_told:
            self.warn(study, names.REASON_CHAIN_FAILED, f"{chain}: {message}")
