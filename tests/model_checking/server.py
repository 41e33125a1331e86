"""The API server: objects in memory, with graceful deletion of pods and garbage collection."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from hippo.kube.client import ApiError, Refused
from hippo.kube.pods.manifest import pod_name
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY, TRIAL, Document, Resource, StatusModel
from hippo.lifecycles import TrialState
from tests.model_checking.faults import Faults
from tests.unit.kube.memory import NAMESPACE, MemoryApi, copied

TRIAL_ENDS = {str(state) for state in TrialState if state.is_final}


def _has_ended(study_status: Document) -> bool:
    return study_status.get("phase") in ("Succeeded", "Failed")


def _error() -> Exception:
    return ApiError(0, "the API server does not answer")


class Server(MemoryApi):
    """What there is, whoever asks. Pods that are to leave stay until their node lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.met: Counter[str] = Counter()
        """Faults of operators' requests, by kind and request."""
        self.unrecorded: list[str] = []
        """Pods that were created though no SearchPlan told of their chains."""
        self.early_ends: list[str] = []
        """Studies that said they had ended before their Trials did, and which Trials."""
        self.on_pod: Callable[[Document], None] = lambda pod: None
        self.quota: int | None = None
        """Pods that there may be at once; None: any number."""

    async def create(
        self, resource: Resource, namespace: str, body: Document, *, dry_run: bool = False
    ) -> Document:
        if resource is POD and not dry_run and self._is_full(body["metadata"]["name"]):
            name = body["metadata"]["name"]
            raise Refused(403, f'pods "{name}" is forbidden: exceeded quota: pods, requested: 1')
        made = await super().create(resource, namespace, body, dry_run=dry_run)
        if resource is POD and not dry_run:
            self._check_recorded(made)
            self.on_pod(made)
            self.collect_garbage()  # its owner may be gone, and the cluster looks at that first
        return made

    def _is_full(self, name: str) -> bool:
        """A name that is there already is refused for that, as by a real one."""
        taken = [
            pod["metadata"]["name"]
            for pod in self.pods()
            if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        ]
        return self.quota is not None and name not in taken and len(taken) >= self.quota

    def _check_recorded(self, pod: Document) -> None:
        """The first phase of a launch goes before the second, always."""
        plans = [d for (plural, *_), d in self.objects.items() if plural == SEARCH_PLAN.plural]
        recorded = {
            pod_name(plan["metadata"]["name"], chain["name"])
            for plan in plans
            for chain in (plan.get("status") or {}).get("chains", [])
        }
        if pod["metadata"]["name"] not in recorded:
            self.unrecorded.append(pod["metadata"]["name"])

    async def set_status(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        status: StatusModel,
        **options: Any,
    ) -> Document:
        before = (self.objects.get((resource.plural, namespace, name)) or {}).get("status") or {}
        written = await super().set_status(resource, namespace, name, status, **options)
        if resource is STUDY and _has_ended(written["status"]) and not _has_ended(before):
            self._check_trials_of(name)
        return written

    def _check_trials_of(self, study: str) -> None:
        """Whoever sees that a study has ended may rely on the statuses of its Trials."""
        for trial in self.names(TRIAL):
            found = self.find(TRIAL, trial)
            phase = (found.get("status") or {}).get("phase")
            if found["spec"]["study"] == study and phase not in TRIAL_ENDS:
                self.early_ends.append(f"{study}: {trial} is {phase}")

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        if resource is not POD:
            await super().delete(resource, namespace, name, uid=uid)
            return
        await self._begin("delete", resource, name)
        found = self.objects.get((resource.plural, namespace, name))
        if found is not None and uid in (None, found["metadata"]["uid"]):
            self.tell_to_leave(found)

    def tell_to_leave(self, pod: Document) -> None:
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self.remove(POD, pod["metadata"]["name"])
            return
        pod["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
        self._written(pod)

    def count_from(self, number: int) -> None:
        """Of versions and uids that are still to be given."""
        self._numbers = itertools.count(number)

    def pods(self) -> list[Document]:
        return [d for (plural, *_), d in sorted(self.objects.items()) if plural == POD.plural]

    def watched(self, plurals: Collection[str]) -> dict[tuple[str, str], Document]:
        """By plural and name; not to be changed."""
        return {
            (plural, name): document
            for (plural, _, name), document in self.objects.items()
            if plural in plurals
        }

    def change_spec(self, resource: Resource, name: str, **fields: Any) -> None:
        """As a user does."""
        document = self.find(resource, name)
        document["spec"] |= fields
        document["metadata"]["generation"] += 1
        self._written(document)

    def touch(self, document: Document) -> None:
        """Its metadata has changed."""
        self._written(document)

    def remove(self, resource: Resource, name: str) -> None:
        """It is gone, whatever its grace."""
        del self.objects[resource.plural, NAMESPACE, name]

    def set_pod_status(self, pod: Document, status: dict[str, Any]) -> None:
        pod["status"] = status
        self._written(pod)

    def collect_garbage(self) -> None:
        """What belonged to objects that are gone."""
        while True:
            uids = {document["metadata"]["uid"] for document in self.objects.values()}
            for key, document in list(self.objects.items()):
                owners = document["metadata"].get("ownerReferences") or []
                if owners and not any(owner["uid"] in uids for owner in owners):
                    if key[0] == POD.plural:
                        self.tell_to_leave(document)
                    else:
                        del self.objects[key]
                        break
            else:
                return


class Connection:
    """The server as one operator reaches it."""

    def __init__(self, server: Server, faults: Faults) -> None:
        self._server = server
        self.faults = faults

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._server, verb)

        async def asked(*arguments: Any, **options: Any) -> Any:
            request = f"{verb} {getattr(arguments[0], 'plural', '')}" if arguments else verb
            await self.faults.wait(request)
            after = self.faults.next(_error, request)
            answer = await call(*arguments, **options)
            after()
            return copied(answer)

        return asked
