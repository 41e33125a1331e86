"""Trials that users made, as watches and lists have told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hippo.kube import names
from hippo.kube.client import Api
from hippo.kube.resources import TRIAL

Changed = Callable[[str, str], None]
"""Called with a namespace and a name."""


class UserTrialCache:
    """Keeps what a round needs of each Trial: name, uid, spec and phase."""

    def __init__(self, api: Api, *, on_gone: Changed, on_change: Changed) -> None:
        """``on_gone`` is called with the name of a Trial that is gone, ``on_change`` with the name
        of the study that a Trial names which has come, was edited or is gone.
        """
        self._api = api
        self._on_gone = on_gone
        self._on_change = on_change
        self.by_namespace: dict[str, dict[str, Mapping[str, Any]]] = {}
        """The Trials of each namespace, by name."""

    def find(self, namespace: str) -> Mapping[str, Mapping[str, Any]]:
        """The Trials of a namespace, by name."""
        return self.by_namespace.get(namespace, {})

    def update(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A watch has told of a Trial."""
        metadata, spec = document["metadata"], document.get("spec") or {}
        namespace, name, status = metadata["namespace"], metadata["name"], document.get("status")
        known = self.by_namespace.setdefault(namespace, {})
        before = known.get(name)
        if is_gone:
            known.pop(name, None)
            self._on_gone(namespace, name)
        else:
            known[name] = {
                "metadata": {"name": name, "uid": metadata["uid"]},
                "spec": spec,
                "status": status and {"phase": status.get("phase")},
            }
        if is_gone or before is None or before["spec"] != document.get("spec"):
            self._on_change(namespace, spec.get("study", ""))

    async def drop_deleted(self) -> None:
        """Find deletions that no watch has reported. Raises ApiError."""
        for namespace in [n for n, trials in self.by_namespace.items() if trials]:
            await self._drop_deleted(namespace)

    async def _drop_deleted(self, namespace: str) -> None:
        known = dict(self.by_namespace[namespace])
        selector = f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}"
        found = await self._api.list(TRIAL, namespace, labels=selector)
        there = {trial["metadata"]["uid"] for trial in found}
        for name, document in known.items():
            is_same = self.by_namespace[namespace].get(name) is document
            if is_same and document["metadata"]["uid"] not in there:
                del self.by_namespace[namespace][name]
                self._on_gone(namespace, name)
                self._on_change(namespace, document["spec"].get("study", ""))
