"""Ownership of a store's namespaces by clusters.

An operator considers a stored study deleted if its cluster has no object with the study's uid. With
the store of another or a rebuilt cluster, that would be all of them. So the first operator that
knows a namespace's studies writes a stamp beside its plans, ``<namespace>/cluster.json``, and an
operator of another cluster changes nothing there until an administrator says that its cluster takes
over (``hippo store adopt``).

A cluster is identified by the uid of its namespace ``kube-system``, as is customary. Studies stored
by ``hippo run`` belong to no cluster.
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
"""Pattern of a cluster's ID, usually a UUID."""

Cluster = Annotated[str, StringConstraints(pattern=f"^{CLUSTER_PATTERN}$", max_length=128)]


class OtherCluster(StoreError):
    """A namespace of the store belongs to another cluster."""


class Stamp(Record):
    """The owner of a namespace. Readers need only ``cluster``."""

    format_version: Version = FORMAT_VERSION
    cluster: Cluster
    since: Moment


def read_stamp(blobs: Blobs, namespace: str) -> str | None:
    """Returns the cluster that owns a namespace, or None if it has no stamp. Raises StoreError.

    There is no stamp if no operator, or only one of an earlier version, has worked there.
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
    """Claims a namespace for this cluster. Raises OtherCluster, StoreError.

    ``cluster`` is None if it is unknown; nothing is stamped then. ``is_known`` tells whether the
    cluster has a study with a given uid. ``begins`` is whether one of its studies is about to be
    stored; otherwise a namespace without the cluster's studies gets no stamp.

    A namespace without a stamp can be claimed if it has no undeleted studies of any cluster, or if
    the cluster knows one of them.
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
    """Makes the namespace this cluster's; returns the previous owner. Raises StoreError."""
    before = None
    with contextlib.suppress(Unreadable):
        before = _read(blobs, namespace)
    blobs.put(_name(namespace), encode(Stamp(cluster=cluster, since=time.time()), Kind.STAMP))
    return before


def _has_known(
    blobs: Blobs, namespace: str, cluster: str | None, is_known: Callable[[str], bool]
) -> bool:
    """Whether the cluster knows a study of a namespace.

    Raises OtherCluster if there are studies of a cluster and this one knows none of them;
    StoreError.
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
    """Yields the readable studies; unreadable ones cannot be mistaken for deleted either.

    Raises StoreError if the store fails.
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
    """Returns the stamp's cluster or None. Raises Unreadable, NewerFormat."""
    name = _name(namespace)
    try:
        return decode(Stamp.model_validate_json, fetch(blobs, name, Kind.STAMP), name).cluster
    except MissingBlob:
        return None


def _name(namespace: str) -> str:
    return f"{check_component(namespace)}/cluster.json"
