"""What studies may ask of their pods beyond the built-in list, because an administrator says so.

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

    def has(self, kind: str, name: str) -> bool:
        """Whether a study may set this."""
        return any(
            name.startswith(one[:-1]) if one.endswith("*") else name == one
            for one in (*BUILT_IN[kind], *self.more.get(kind, ()))
        )


NOTHING_MORE: Final = Allowance()


def how_to_allow(kind: str, name: str) -> str:
    """The remedy, for whoever is refused."""
    return f"an administrator can allow it by {VALUES}.{kind}: [{name}] in the chart's values"
