"""Errors on which a plan's reconciler is dropped; the plan is opened again from durable state."""

from __future__ import annotations

from hippo.kube.client import ApiError
from hippo.kube.names import CLUSTER_FORMAT
from hippo.kube.serial_executor import NoThread
from hippo.lifecycles import InvariantViolated
from hippo.store import LockLost, NewerFormat, StoreError


class Reopen(Exception):
    """Discard this reconciler and reopen the plan from durable state."""


class TakenOver(Exception):
    """Another operator works on this plan now. The message is one line."""


class NewerPlan(NewerFormat):
    """A newer operator has written this SearchPlan."""

    def __init__(self, name: str, version: int) -> None:
        StoreError.__init__(
            self,
            f"the SearchPlan {name} was written by a newer Hippo (format {version}, this operator"
            f" knows up to {CLUSTER_FORMAT}): run that version of the operator again",
        )


class NewerPod(NewerFormat):
    """A newer operator has launched this pod, and it is at work."""

    def __init__(self, name: str) -> None:
        StoreError.__init__(
            self,
            f"the pod {name} was launched by a newer Hippo and is at work: run that version of the"
            " operator again, or wait until the pod has ended",
        )


class OldDefinitions(ApiError):
    """The CRDs in the cluster do not keep what this operator writes."""

    def __init__(self) -> None:
        super().__init__(
            0,
            "the CRDs in this cluster are older than this operator, and would lose what it writes:"
            " apply those of its version (helm upgrade, or hippo crds | kubectl apply"
            " --server-side -f -)",
        )


NOT_A_STUDYS_FAULT = (StoreError, ApiError, LockLost, TakenOver, Reopen, NoThread)
"""Errors that no single study causes, whichever one is being served."""

CANNOT_BE = (ValueError, LookupError, InvariantViolated)
"""Errors of the engine for records that no worker and no operator writes in good faith."""
