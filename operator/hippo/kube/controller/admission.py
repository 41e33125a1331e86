"""Studies as they come: read, checked, and told at once whether they are accepted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.client import Api, ApiError, Refused
from hippo.kube.observability.events import Events
from hippo.kube.pods.manifest import build_dry_runs
from hippo.kube.pods.template_validation import check_trainer
from hippo.kube.reconciler.chain_pods import is_for_quota
from hippo.kube.resources import POD
from hippo.kube.serial_executor import NoThread, SerialExecutor
from hippo.kube.settings import Settings
from hippo.kube.spec_parser import SHARED, ParserFailed, SpecParser, TooCostly
from hippo.kube.status.conditions import find_condition, set_condition
from hippo.kube.status.models import may_go_on
from hippo.kube.status.written import StudyStatuses, read_study_status
from hippo.model import InvalidSpec, Study
from hippo.model.foreign import quote
from hippo.model.study import TrainerSpec

log = logging.getLogger(__name__)

MAX_REFUSED = 1000
"""Refused studies whose errors are remembered; others are parsed again."""
MAX_RETRY_BYTES = 63
"""Bytes of the annotation that retries failed trials; the status repeats it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A study cannot be taken as it is: what its condition says."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _ParseResult:
    """The result of parsing one generation of a study."""

    generation: int
    study: Study | None
    error: InvalidSpec | None = None


class StudyAdmission:
    """Checks, by the model and a dry run of a pod, what the CRD's schema and rules cannot.

    Documents are parsed off the event loop, those of one namespace one after the other.
    """

    def __init__(
        self,
        api: Api,
        settings: Settings,
        statuses: StudyStatuses,
        events: Events,
        parser: SpecParser = SHARED,
        *,
        clock: Callable[[], float] = time.time,
        build_executor: Callable[[str], SerialExecutor] = SerialExecutor,
    ) -> None:
        """``clock`` gives Unix time; ``build_executor`` a thread, by its name."""
        self._api = api
        self._clock = clock
        self._parser = parser
        self._build_executor = build_executor
        self._executors: dict[str, SerialExecutor] = {}  # by namespace
        self._results: dict[str, _ParseResult] = {}  # by uid
        self._refused: dict[str, None] = {}  # uids of those with an error, oldest first
        self._settings = settings
        self._statuses = statuses
        self._events = events
        self._rejected: dict[str, int] = {}  # generation that was told so, by uid
        self._checked: dict[str, TrainerSpec] = {}  # of whom the server would take pods, by uid

    def forget(self, uid: str) -> None:
        """The study is gone."""
        self._results.pop(uid, None)
        self._refused.pop(uid, None)
        self._rejected.pop(uid, None)
        self._checked.pop(uid, None)

    def keep(self, uids: Collection[str]) -> None:
        """There are no studies but these."""
        for uid in {*self._results, *self._rejected, *self._checked}.difference(uids):
            self.forget(uid)

    async def accept(self, document: Mapping[str, Any]) -> Accepted | Refusal:
        """Raises ApiError, ParserFailed. Results and refusals are remembered until there is a later
        generation.
        """
        try:
            return await self._accept(document)
        except InvalidSpec as error:
            is_costly = isinstance(error, TooCostly)
            reason = names.REASON_TOO_COSTLY if is_costly else names.REASON_INVALID
            return Refusal(reason, "; ".join(str(error).splitlines()))
        except Refused as error:
            return Refusal(
                names.REASON_POD_REFUSED,
                f"the API server would not take its pods: {error}; check spec.trainer.podTemplate",
            )
        except (ApiError, ParserFailed, NoThread):
            raise
        except Exception as error:  # of whatever this study holds, and no other
            log.exception("study %s: a defect of Hippo", document["metadata"]["name"])
            reason = f"it cannot be taken: {type(error).__name__}: {error}"
            return Refusal(names.REASON_INVALID, " ".join(reason.split()))

    async def _accept(self, document: Mapping[str, Any]) -> Accepted:
        metadata = document["metadata"]
        namespace = metadata["namespace"]
        if namespace not in self._executors:
            self._executors[namespace] = self._build_executor(f"studies of {namespace}")
        executor = self._executors[namespace]
        study = await self._parse_once(document, executor)
        if study.spec.trainer.image is None:
            raise InvalidSpec.at(
                "spec.trainer.image", "is missing: name the image that holds the trainer"
            )
        uid = metadata["uid"]
        status = document.get("status") or {}
        if _may_go_on(document):
            own, allowance = self._settings.own_namespace, self._settings.allowance
            await executor.run(check_trainer, study.spec.trainer, study.namespace, own, allowance)
        is_new = uid not in self._checked
        is_at_work = is_new and status.get("phase") not in (None, "Rejected", "Pending")
        if self._checked.get(uid) != study.spec.trainer and not is_at_work:
            await self._try_pods(study, executor)
        self._checked[uid] = study.spec.trainer
        return Accepted(
            study,
            uid,
            int(metadata["generation"]),
            metadata["creationTimestamp"],
            document,
            read_retry(metadata),
        )

    async def _parse_once(self, document: Mapping[str, Any], executor: SerialExecutor) -> Study:
        """Once for each generation. Raises InvalidSpec, ParserFailed."""
        uid, generation = document["metadata"]["uid"], int(document["metadata"]["generation"])
        result = self._results.get(uid)
        if result is None or result.generation != generation:
            result = await executor.run(self._parse, document)
        if result.study is None:
            assert result.error is not None
            raise type(result.error)(result.error.errors)
        return result.study

    def _parse(self, document: Mapping[str, Any]) -> _ParseResult:
        """Runs in the namespace's thread; a caller that waited for another finds its result."""
        uid, generation = document["metadata"]["uid"], int(document["metadata"]["generation"])
        known = self._results.get(uid)
        if known is not None and known.generation == generation:
            return known
        result = self._parse_document(document, generation)
        if known is None or known.generation < generation:
            self._results[uid] = result
            self._refused.pop(uid, None)
            if result.error is not None:
                self._refused[uid] = None
            while len(self._refused) > MAX_REFUSED:
                self._results.pop(next(iter(self._refused)), None)
                del self._refused[next(iter(self._refused))]
        return result

    def _parse_document(self, document: Mapping[str, Any], generation: int) -> _ParseResult:
        metadata = document["metadata"]
        told = _find_refusal(document, generation)
        if told is not None:
            return _ParseResult(generation, None, told)
        namespace = metadata["namespace"]
        plain = {
            "apiVersion": document["apiVersion"],
            "kind": document["kind"],
            "metadata": {"name": metadata["name"], "namespace": namespace},
            "spec": document.get("spec"),
        }
        try:
            return _ParseResult(generation, self._parser.parse_study(plain, namespace))
        except InvalidSpec as error:
            return _ParseResult(generation, None, error.with_traceback(None))

    async def _try_pods(self, study: Study, executor: SerialExecutor) -> None:
        *others, last = await executor.run(build_dry_runs, study, self._settings)
        for body in (*others, last):
            try:
                await self._api.create(POD, study.namespace, body, dry_run=True)
                return
            except Refused as error:
                if is_for_quota(error):
                    return
                if body is last:
                    raise

    async def welcome(self, item: Accepted, plan: str) -> None:
        """A study that is valid says so before anything is done for it. Raises ApiError."""
        self._rejected.pop(item.uid, None)
        status = self._statuses.find(item.document)
        if status.phase not in (None, "Rejected"):
            return
        status = status.model_copy(
            update={
                "phase": "Pending",
                "message": "",
                "plan": plan,
                "observed_generation": item.generation,
                "conditions": set_condition(
                    status.conditions,
                    names.ACCEPTED,
                    True,
                    reason=names.REASON_VALID,
                    now=self._clock(),
                    generation=item.generation,
                ),
            }
        )
        await self._statuses.write(item.document, status)

    async def reject(
        self, document: Mapping[str, Any], reason: str, message: str, *, is_at_work: bool
    ) -> None:
        """Say what is wrong; a study that is at work already goes on as it was. Raises ApiError."""
        metadata = document["metadata"]
        uid, generation = metadata["uid"], int(metadata["generation"])
        if self._rejected.get(uid) == generation:
            return
        status = self._statuses.find(document).model_copy()
        status.conditions = set_condition(
            status.conditions,
            names.ACCEPTED,
            False,
            reason=reason,
            message=message,
            now=self._clock(),
            generation=generation,
        )
        status.observed_generation = generation
        if not is_at_work:
            status.phase, status.message = "Rejected", message
        await self._statuses.write(document, status)
        self._rejected[uid] = generation
        self._events.tell(document, reason, message, True)


def _may_go_on(document: Mapping[str, Any]) -> bool:
    """If not, no pod will be made of a study: it keeps its status though it might not be taken
    today.
    """
    status, metadata = document.get("status") or {}, document["metadata"]
    return may_go_on(
        phase=status.get("phase"),
        observed_generation=status.get("observedGeneration"),
        generation=metadata["generation"],
        retried=status.get("retried"),
        retry=read_retry(metadata),
    )


def _find_refusal(document: Mapping[str, Any], generation: int) -> TooCostly | None:
    """An earlier operator's refusal of this generation for its cost, as the status has it."""
    found = find_condition(read_study_status(document).conditions, names.ACCEPTED)
    if found is None or (found.status, found.reason) != ("False", names.REASON_TOO_COSTLY):
        return None
    return TooCostly([("", found.message)]) if found.observed_generation == generation else None


def read_retry(metadata: Mapping[str, Any]) -> str | None:
    """The value of the annotation that retries failed trials, as statuses repeat it."""
    retry = (metadata.get("annotations") or {}).get(names.ANNOTATION_RETRY)
    return quote(str(retry), MAX_RETRY_BYTES) if retry is not None else None
