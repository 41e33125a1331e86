"""Which cluster this is, and whether a namespace of the store is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hippo.kube.client import Api, ApiError
from hippo.kube.resources import NAMESPACE
from hippo.store import Blobs
from hippo.store.clusters import claim

CLUSTER_NAMESPACE = "kube-system"
"""A namespace of every cluster, whose uid identifies it."""


class ClusterIdentity:
    """Reads the cluster's uid once, unless it is configured."""

    def __init__(self, api: Api, blobs: Blobs, configured: str | None) -> None:
        self._api = api
        self._blobs = blobs
        self._uid = configured

    async def read(self) -> str:
        """The uid of this cluster. Raises ApiError."""
        if self._uid is None:
            try:
                found = await self._api.get(NAMESPACE, None, CLUSTER_NAMESPACE)
            except ApiError as error:
                raise ApiError(
                    error.status,
                    f"which cluster this is cannot be told: {error}; let the operator get the"
                    f" namespace {CLUSTER_NAMESPACE}, as the chart does, or set --cluster-uid"
                    " (the chart's store.clusterUid)",
                ) from None
            self._uid = str(found["metadata"]["uid"])
        return self._uid

    async def claim(self, namespace: str, is_known: Callable[[str], bool]) -> None:
        """Claim a namespace of the store. ``is_known`` tells by uid which studies are this
        cluster's. Raises OtherCluster, StoreError, ApiError.
        """
        cluster = await self.read()
        await asyncio.to_thread(claim, self._blobs, namespace, cluster, is_known=is_known)
