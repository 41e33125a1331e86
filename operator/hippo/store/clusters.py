"""Which cluster the studies of a namespace belong to.

An operator takes a study of the store for deleted if the cluster has no object of its uid. With the
store of another cluster, or of one that was rebuilt, that would be all of them. So the first
operator that knows a namespace's studies leaves a stamp beside its plans,
``<namespace>/cluster.json``, and one of another cluster changes nothing there until somebody says
that its cluster takes over (``hippo store adopt``).

Clusters are told apart by the uid of their namespace ``kube-system``, as is usual. Studies that
``hippo run`` has stored belong to no cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import StringConstraints

from hippo.protocol.fields import Moment, Version, check_component
from hippo.protocol.records import FORMAT_VERSION, Record
from hippo.store.blobs import Blobs, LinkInside, MissingBlob, StoreError, Unreadable
from hippo.store.bounds import Kind
from hippo.store.catalog import list_plans
from hippo.store.encoding import NewerFormat, decode, encode, fetch
from hippo.store.plan_store import PlanStore

CLUSTER_PATTERN = r"[A-Za-z0-9]([-A-Za-z0-9._]{0,126}[A-Za-z0-9])?"
"""An ID of a cluster: usually a UUID."""

Cluster = Annotated[str, StringConstraints(pattern=f"^{CLUSTER_PATTERN}$", max_length=128)]


class OtherCluster(StoreError):
    """A namespace of the store belongs to another cluster."""


class Stamp(Record):
    """The owner of a namespace. Readers need only ``cluster``."""

    format_version: Version = FORMAT_VERSION
    cluster: Cluster
    since: Moment


def read_stamp(blobs: Blobs, namespace: str) -> str | None:
    """The cluster that a namespace belongs to; None if no operator has worked there, or an earlier
    version's. Raises StoreError.
    """
    try:
        return _read(blobs, namespace)
    except Unreadable as error:
        raise StoreError(f"{error}: if it is this cluster's, {_tell_adoption(namespace)}") from None


def claim(
    blobs: Blobs,
    namespace: str,
    cluster: str | None,
    *,
    is_known: Callable[[str], bool],
    begins: bool = True,
) -> None:
    """Claim a namespace for this cluster. ``cluster``: None if that is not known; then
    nothing is stamped. ``is_known``, by uid: whether the cluster has a study. ``begins``: one of
    its studies is to be stored there; else a namespace without any gets no stamp.

    A namespace without a stamp is the cluster's if it has none of any cluster's studies that were
    not deleted, or the cluster knows one of them. Raises OtherCluster, StoreError.
    """
    found = read_stamp(blobs, namespace)
    if found is None:
        has_ours = _has_known(blobs, namespace, cluster, is_known)
        if cluster is None or not (has_ours or begins):
            return
        stamp = Stamp(cluster=cluster, since=time.time())
        if blobs.put(_name(namespace), encode(stamp, Kind.STAMP), if_absent=True):
            return
        found = read_stamp(blobs, namespace)
    if found != cluster:
        here = "" if cluster is None else f", and this one is {cluster}"
        raise OtherCluster(
            f"namespace {namespace} of the store belongs to the cluster {found}{here}:"
            f" {_tell_remedy(namespace, cluster)}"
        )


def adopt(blobs: Blobs, namespace: str, cluster: str) -> str | None:
    """From now on the namespace is this cluster's; returns whose it was. Raises StoreError."""
    before = None
    with contextlib.suppress(Unreadable):
        before = _read(blobs, namespace)
    blobs.put(_name(namespace), encode(Stamp(cluster=cluster, since=time.time()), Kind.STAMP))
    return before


def _has_known(
    blobs: Blobs, namespace: str, cluster: str | None, is_known: Callable[[str], bool]
) -> bool:
    """Whether the cluster knows a study of a namespace. Raises OtherCluster if there are some,
    and it knows none of them; StoreError.
    """
    strangers = 0
    for path in list_plans(blobs, namespace):
        for document in _read_studies(PlanStore(blobs, path)):
            uid = document.get("uid")
            if uid is None or document.get("deleted") is not None:
                continue
            if is_known(str(uid)):
                return True
            strangers += 1
    if strangers:
        raise OtherCluster(
            f"namespace {namespace} of the store has studies of a cluster ({strangers}), and this"
            f" one knows none of them: {_tell_remedy(namespace, cluster)}"
        )
    return False


def _read_studies(store: PlanStore) -> Iterator[dict[str, Any]]:
    """Those that can be read: nobody can take others for deleted either. Raises StoreError if the
    store fails.
    """
    with contextlib.suppress(LinkInside, Unreadable):
        for name in store.list_studies():
            with contextlib.suppress(Unreadable, NewerFormat, MissingBlob, LinkInside):
                yield store.read_study(name)


def _tell_remedy(namespace: str, cluster: str | None) -> str:
    return (
        "give this operator another prefix (--store, the chart's store.url), or, if its cluster"
        f" takes the place of that one, {_tell_adoption(namespace, cluster)}"
    )


def _tell_adoption(namespace: str, cluster: str | None = None) -> str:
    return f"run hippo store adopt -n {namespace} --cluster-uid {cluster or 'UID'} STORE"


def _read(blobs: Blobs, namespace: str) -> str | None:
    """Raises Unreadable, NewerFormat."""
    name = _name(namespace)
    try:
        return decode(Stamp.model_validate_json, fetch(blobs, name, Kind.STAMP), name).cluster
    except MissingBlob:
        return None


def _name(namespace: str) -> str:
    return f"{check_component(namespace)}/cluster.json"
