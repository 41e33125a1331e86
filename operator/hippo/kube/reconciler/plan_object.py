"""The SearchPlan of a plan: the record of what has been launched, and a view of everything else.

A chain is recorded here before its pod is created, under the resourceVersion that was read: an
operator that was overtaken fails to record, and so creates nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hippo.kube.client import AlreadyExists, Api, Conflict, NotFound
from hippo.kube.manifests import build_search_plan
from hippo.kube.names import CLUSTER_FORMAT
from hippo.kube.reconciler.errors import NewerPlan, OldDefinitions, TakenOver
from hippo.kube.resources import SEARCH_PLAN, dump
from hippo.kube.status.models import SearchPlanStatus
from hippo.model import Study
from hippo.protocol.fields import MAX_NAME, check_component

_ATTEMPTS = 5


class PlanObject:
    """Read by ``ensure``; from then on this process is the only one that writes it."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._document: dict[str, Any] = {}
        self.status = SearchPlanStatus()

    @property
    def uid(self) -> str:
        return str(self._document["metadata"]["uid"])

    async def read_generation(self) -> int:
        """The generation of the last hold on the plan that its object knows; 0 if there is none. A
        store that was lost, or replaced, counts from the beginning. Raises ApiError, NewerPlan.
        """
        try:
            found = await self._api.get(SEARCH_PLAN, self._namespace, self._name)
        except NotFound:
            return 0
        self._check_format(found)
        return _generation(found)

    def _check_format(self, found: dict[str, Any]) -> None:
        version = (found.get("status") or {}).get("formatVersion", CLUSTER_FORMAT)
        if int(version) > CLUSTER_FORMAT:
            raise NewerPlan(self._name, int(version))

    async def ensure(
        self, *, signature: str, study: Study, owners: list[dict[str, Any]], generation: int
    ) -> None:
        """Find or make the object, and take it over. Raises ApiError, TakenOver, NewerPlan."""
        body = build_search_plan(
            self._name, self._namespace, signature=signature, study=study, owners=owners
        )
        try:
            self._document = await self._api.create(SEARCH_PLAN, self._namespace, body)
        except AlreadyExists:
            self._document = await self._patch_owners(owners)
        self._check_format(self._document)
        self.status = read_status(self._document)
        if self.status.generation >= generation:
            raise self._taken_over()
        self.status.generation = generation
        self.status.format_version = CLUSTER_FORMAT
        await self.write()
        if (self._document.get("status") or {}).get("formatVersion") != CLUSTER_FORMAT:
            raise OldDefinitions

    async def set_owners(self, owners: list[dict[str, Any]]) -> None:
        """The live studies: the garbage collector keeps the plan until the last is gone. Raises
        ApiError, TakenOver.
        """
        try:
            self._document = self._check(await self._patch_owners(owners))
        except NotFound:
            raise self._deleted() from None

    async def _patch_owners(self, owners: list[dict[str, Any]]) -> dict[str, Any]:
        body = {"metadata": {"ownerReferences": owners}}
        return await self._api.patch(SEARCH_PLAN, self._namespace, self._name, body)

    async def write(self) -> None:
        """Write the status as it is now. Raises ApiError, TakenOver."""
        status = dump(self.status)
        for _ in range(_ATTEMPTS):
            try:
                self._document = await self._api.replace_status(
                    SEARCH_PLAN, self._namespace, self._name, {**self._document, "status": status}
                )
                return
            except Conflict:
                try:
                    found = await self._api.get(SEARCH_PLAN, self._namespace, self._name)
                except NotFound:
                    raise self._deleted() from None
                self._document = self._check(found)
            except NotFound:
                raise self._deleted() from None
        raise TakenOver(f"the SearchPlan {self._name} is written by somebody else again and again")

    def _check(self, found: dict[str, Any]) -> dict[str, Any]:
        """The object as it is now; to write under its version is to know of all that it says."""
        if found["metadata"]["uid"] != self.uid or _generation(found) > self.status.generation:
            raise self._taken_over()
        return found

    def _taken_over(self) -> TakenOver:
        return TakenOver(f"plan {self._name} was taken over by another operator")

    def _deleted(self) -> TakenOver:
        return TakenOver(f"the SearchPlan {self._name} was deleted")


def read_status(document: Mapping[str, Any]) -> SearchPlanStatus:
    """The status that a SearchPlan carries, but for chains that nobody can have launched: whoever
    edits it by hand may write any name there.
    """
    status = SearchPlanStatus.model_validate(document.get("status") or {})
    status.chains = [record for record in status.chains if _may_be_chain(record.name)]
    return status


def _may_be_chain(name: str) -> bool:
    try:
        check_component(name)
    except ValueError:
        return False
    return len(name) <= MAX_NAME


def _generation(document: dict[str, Any]) -> int:
    return int((document.get("status") or {}).get("generation", 0))
