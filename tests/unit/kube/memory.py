"""An API server in memory, behind the methods of ``hippo.kube.client.Api``, and objects for it.

It knows resource versions, uids, label selectors and status, but no schemas, watches, garbage
collection or rights: what depends on those is tested on a real node.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

from hippo.kube.accepted_study import Accepted
from hippo.kube.client import AlreadyExists, Api, ApiError, Conflict, NotFound, StatusPrecondition
from hippo.kube.resources import STUDY, TRIAL, Document, Resource, StatusModel, dump
from hippo.model import Study, parse_study

T = TypeVar("T")
NAMESPACE = "research"
Key = tuple[str, str, str]


def copied(value: Any) -> Any:
    """A document of its own, as from the network; many times faster than ``copy.deepcopy``."""
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [copied(inner) for inner in value]
    return value


class MemoryApi:
    """Objects by plural, namespace and name. ``calls``: what was asked for, in order."""

    def __init__(self) -> None:
        self.objects: dict[Key, Document] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.fail: Callable[[str, str, str], ApiError | None] = lambda verb, plural, name: None
        """An error to answer with, by verb, plural and name."""
        self.cluster = "uid-of-the-cluster"
        self._numbers = itertools.count(1)

    @property
    def api(self) -> Api:
        return cast(Api, self)

    def find(self, resource: Resource, name: str) -> Document:
        return self.objects[resource.plural, NAMESPACE, name]

    def names(self, resource: Resource) -> list[str]:
        return sorted(name for plural, _, name in self.objects if plural == resource.plural)

    def count(self, verb: str, resource: Resource) -> int:
        return sum(1 for v, plural, _ in self.calls if (v, plural) == (verb, resource.plural))

    # -- as Api ------------------------------------------------------------------------------------

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Document:
        await self._begin("get", resource, name)
        return copied(self._find(resource, namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None = None, *, labels: str = ""
    ) -> list[Document]:
        await self._begin("list", resource, "")
        return [
            copied(document)
            for (plural, where, _), document in sorted(self.objects.items())
            if plural == resource.plural
            and namespace in (None, where)
            and _matches(document["metadata"].get("labels") or {}, labels)
        ]

    async def create(
        self, resource: Resource, namespace: str, body: Document, *, dry_run: bool = False
    ) -> Document:
        name = body["metadata"]["name"]
        await self._begin("create", resource, name)
        if (resource.plural, namespace, name) in self.objects:
            raise AlreadyExists(409, f"{resource.plural} {name} exists")
        made = copied(body)
        number = next(self._numbers)
        made["metadata"] |= {
            "namespace": namespace,
            "uid": f"uid-{number}",
            "resourceVersion": str(number),
            "generation": 1,
            "creationTimestamp": f"2026-01-01T00:00:{number % 60:02d}Z",
        }
        if not dry_run:
            self.objects[resource.plural, namespace, name] = made
        return copied(made)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Document
    ) -> Document:
        await self._begin("patch", resource, name)
        found = self._find(resource, namespace, name)
        version = body.get("metadata", {}).get("resourceVersion")
        if version not in (None, found["metadata"]["resourceVersion"]):
            raise Conflict(409, "it was written meanwhile")
        before = copied(found.get("spec"))
        _merge(found, copied(body))
        if found.get("spec") != before:
            found["metadata"]["generation"] += 1
        return self._written(found)

    async def set_status(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        status: StatusModel,
        *,
        precondition: StatusPrecondition | None = None,
    ) -> Document:
        await self._begin("status", resource, name)
        found = self._find(resource, namespace, name)
        if precondition not in (None, StatusPrecondition.read(found)):
            raise Conflict(422, "its status was written meanwhile")
        found["status"] = dump(status)
        return self._written(found)

    async def patch_status(
        self, resource: Resource, namespace: str, name: str, changes: Document, *, version: str
    ) -> Document:
        await self._begin("patch_status", resource, name)
        found = self._find(resource, namespace, name)
        if version != found["metadata"]["resourceVersion"]:
            raise Conflict(409, "it was written meanwhile")
        _merge(found, {"status": copied(changes)})
        return self._written(found)

    async def replace_status(
        self, resource: Resource, namespace: str, name: str, body: Document
    ) -> Document:
        await self._begin("replace", resource, name)
        found = self._find(resource, namespace, name)
        for field in ("resourceVersion", "uid"):
            if body["metadata"][field] != found["metadata"][field]:
                raise Conflict(409, "it was written meanwhile")
        found["status"] = copied(body["status"])
        return self._written(found)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        await self._begin("delete", resource, name)
        found = self.objects.get((resource.plural, namespace, name))
        if found is not None and uid in (None, found["metadata"]["uid"]):
            del self.objects[resource.plural, namespace, name]

    async def _begin(self, verb: str, resource: Resource, name: str) -> None:
        await asyncio.sleep(0)  # others may come first, as with a real one
        self.calls.append((verb, resource.plural, name))
        error = self.fail(verb, resource.plural, name)
        if error is not None:
            raise error

    def _find(self, resource: Resource, namespace: str | None, name: str) -> Document:
        if namespace is None and (resource.plural, name) == ("namespaces", "kube-system"):
            return {"metadata": {"name": name, "uid": self.cluster}}
        assert namespace is not None
        try:
            return self.objects[resource.plural, namespace, name]
        except KeyError:
            raise NotFound(404, f"{resource.plural} {name} not found") from None

    def _written(self, document: Document) -> Document:
        document["metadata"]["resourceVersion"] = str(next(self._numbers))
        return copied(document)


def _matches(labels: Document, selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        if "!=" in term:
            name, _, value = term.partition("!=")
            if labels.get(name) == value:
                return False
        else:
            name, _, value = term.partition("=")
            if labels.get(name) != value:
                return False
    return True


def _merge(document: Document, patch: Document) -> None:
    for name, value in patch.items():
        if value is None:
            document.pop(name, None)
        elif isinstance(value, dict) and isinstance(document.get(name), dict):
            _merge(document[name], value)
        else:
            document[name] = value


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


# -- studies and trials ----------------------------------------------------------------------------


def study_document(name: str, **spec: Any) -> Document:
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "objective": {"metric": "loss", "goal": "minimize"},
            "steps": 4,
            "space": {"lr": {"choices": [0.1, 0.2]}},
            "algorithm": {"name": "grid"},
            "trainer": {"entrypoint": "trainer:Trainer", "image": "digits:1"},
            **spec,
        },
    }


def parse(document: Document) -> Study:
    """The study of an object as the API returns it."""
    metadata = document["metadata"]
    return parse_study(
        {
            **{field: document[field] for field in ("apiVersion", "kind", "spec")},
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        }
    )


async def add_study(server: MemoryApi, name: str, **spec: Any) -> Accepted:
    return accepted(await server.create(STUDY, NAMESPACE, study_document(name, **spec)))


def accepted(document: Document) -> Accepted:
    metadata = document["metadata"]
    return Accepted(
        parse(document),
        metadata["uid"],
        metadata["generation"],
        metadata["creationTimestamp"],
        document,
    )


async def add_trial(
    server: MemoryApi, name: str, study: str, lr: Any = 0.1, steps: int = 2
) -> Document:
    """As a user makes one."""
    body = {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Trial",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"study": study, "hyperparameters": {"lr": lr}, "steps": steps},
    }
    return await server.create(TRIAL, NAMESPACE, body)


def store_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir(exist_ok=True)
    return folder
