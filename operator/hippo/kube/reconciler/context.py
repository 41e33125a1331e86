"""Collaborators and constants that the parts of a plan's reconciler share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hippo.engine import Engine
from hippo.engine.reopening import Advice
from hippo.kube import names
from hippo.kube.client import Api
from hippo.kube.observability.metrics import Metrics
from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.engine_pump import EnginePump, PlanThread
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.reconciler.pod_monitor import PodMonitor
from hippo.kube.reconciler.report_reader import ReportReader
from hippo.kube.reconciler.study_events import StudyEvents
from hippo.kube.reconciler.version_skew import VersionSkew
from hippo.kube.serial_executor import SerialExecutor
from hippo.kube.settings import Settings, build_holder
from hippo.session.open_plan import OpenPlan
from hippo.session.session import Session
from hippo.store import Blobs, Holder, PlanLock

LOCK_SECONDS = 60.0
"""A plan's lock expires after this many seconds without a renewal."""
LINGER_SECONDS = 5.0
"""Seconds that a worker waits at its end for another route: longer than it takes to notice."""
WORKER_POLL_SECONDS = 0.5
"""Seconds between two looks of a worker at its control record."""
RETRY_SECONDS = 5.0
"""Seconds before the first retry of a failed chain."""
LONGEST_ROUTE = 1000
"""Saves and evaluations of a chain at once: its assignment has to fit into an annotation."""

ADVICE = Advice(
    again="apply it",
    retry=f"set the annotation {names.ANNOTATION_RETRY} to a new value",
    metric="delete the study, mend spec.objective.metric and create it again: results are reused",
)
"""Remedies by which users of a cluster let a study go on."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Tools that the reconcilers of all plans share."""

    api: Api
    blobs: Blobs
    settings: Settings
    metrics: Metrics
    tell: Callable[[Mapping[str, Any], str, str, bool], None]
    """Post an Event: object, reason, message, whether it is a warning."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, from any moment."""
    unix_clock: Callable[[], float] = time.time
    build_holder: Callable[..., Holder] = build_holder
    """As whom this operator holds locks, by its identity."""
    build_executor: Callable[[str], SerialExecutor] = SerialExecutor
    """A thread by its name."""


@dataclass(frozen=True, slots=True)
class PlanIdentity:
    """Which plan it is."""

    namespace: str
    name: str
    document: dict[str, Any]  # of the signature
    signature: str

    @property
    def place(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(slots=True)
class Carryover:
    """State that a plan's reconciler leaves to the next one in this process."""

    executor: SerialExecutor = field(default_factory=lambda: SerialExecutor("plan"))
    """Does what takes processor time."""
    distrusted: set[str] = field(default_factory=set)
    """Chains whose reports contradict what they are to do."""
    held: set[int] = field(default_factory=set)
    """The lock's generation that the last reconciler held."""
    version_skew: VersionSkew = field(default_factory=VersionSkew)


@dataclass(slots=True)
class Changes:
    """Whether something has happened that a person waits for: statuses are due."""

    pending: bool = True


@dataclass(frozen=True, slots=True)
class PlanContext:
    """An open plan, as the parts of its reconciler use it."""

    identity: PlanIdentity
    tools: Tools
    plan: OpenPlan
    """Its methods wait for the store: call them from a thread."""
    thread: PlanThread
    plan_object: PlanObject
    chains: ChainPods
    watch: PodMonitor
    reports: ReportReader
    pump: EnginePump
    events: StudyEvents
    changes: Changes

    @property
    def engine(self) -> Engine:
        return self.plan.engine

    @property
    def session(self) -> Session:
        return self.plan.session

    @property
    def lock(self) -> PlanLock:
        return self.plan.lock
