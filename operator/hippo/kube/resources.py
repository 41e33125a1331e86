"""Kinds of the API server, their documents, and the base of all statuses that are written there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote as quote_path

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from hippo.kube.names import GROUP, SEARCH_PLANS, STUDIES, TRIALS, VERSION
from hippo.kube.status.bounding import bound_status

Document = dict[str, Any]
Documents = list[Document]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind, by its place in the API."""

    root: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """Within the namespace, whatever a name holds."""
        parts: list[str] = []
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, sub) if part is not None]
        return "/".join([self.root, *(quote_path(part, safe="") for part in parts)])


_OURS = f"/apis/{GROUP}/{VERSION}"
STUDY = Resource(_OURS, STUDIES)
TRIAL = Resource(_OURS, TRIALS)
SEARCH_PLAN = Resource(_OURS, SEARCH_PLANS)
POD = Resource("/api/v1", "pods")
EVENT = Resource("/api/v1", "events")
NAMESPACE = Resource("/api/v1", "namespaces")


class StatusModel(BaseModel):
    """camelCase outside; every number finite or null."""

    model_config = ConfigDict(
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )


def dump(status: StatusModel) -> Document:
    """A status as JSON, within bounds; what is not known is left out."""
    return bound_status(status.model_dump(mode="json", exclude_none=True))
