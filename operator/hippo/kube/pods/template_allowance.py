"""Names that an administrator allows in podTemplates beyond the built-in list.

Nothing here lifts the restricted Pod Security standard, or gives away names that are Hippo's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

VALUES: Final = "stagePods.allow"
"""Where the chart's values hold it."""

ANNOTATIONS, LABELS, TOLERATIONS = "annotations", "labels", "tolerations"
NODE_SELECTORS, SCHEDULERS = "nodeSelectors", "schedulers"
PRIORITY_CLASSES, RUNTIME_CLASSES = "priorityClasses", "runtimeClasses"
CSI_DRIVERS, FIELDS = "csiDrivers", "fields"

BUILT_IN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # And all names without a prefix.
        ANNOTATIONS: (
            "cluster-autoscaler.kubernetes.io/safe-to-evict",
            "karpenter.sh/do-not-disrupt",
        ),
        LABELS: ("kueue.x-k8s.io/queue-name",),
        TOLERATIONS: (
            "amd.com/gpu",
            "google.com/tpu",
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
            "nvidia.com/gpu",
        ),
        # All other keys are allowed: see RESERVED_NODE_PREFIXES.
        NODE_SELECTORS: (),
        SCHEDULERS: ("default-scheduler",),
        PRIORITY_CLASSES: (),
        RUNTIME_CLASSES: (),
        CSI_DRIVERS: (),
        FIELDS: (),
    }
)
"""By kind: what any study may name."""

RESERVED_NODE_PREFIXES: Final = ("node-role.kubernetes.io/", "node-restriction.kubernetes.io/")
"""Labels by which nodes are set apart: of the control plane, or by their administrator."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """By kind: names, or beginnings of names that end with ``*``."""

    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _names: dict[str, frozenset[str]] = field(init=False, repr=False, compare=False)
    _starts: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = {kind: (*found, *self.more.get(kind, ())) for kind, found in BUILT_IN.items()}
        names = {k: frozenset(n for n in found if n[-1:] != "*") for k, found in given.items()}
        starts = {k: tuple(n[:-1] for n in found if n[-1:] == "*") for k, found in given.items()}
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_starts", starts)

    def has(self, kind: str, name: str) -> bool:
        """Whether a study may set this."""
        return name in self._names[kind] or name.startswith(self._starts[kind])


NOTHING_MORE: Final = Allowance()


def how_to_allow(kind: str, name: str) -> str:
    """The remedy, for whoever is refused."""
    return f"an administrator can allow it by {VALUES}.{kind}: [{name}] in the chart's values"
