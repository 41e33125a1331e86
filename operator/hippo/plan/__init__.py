"""The search plan and what follows from it: what is to be trained, and in which order."""

from hippo.plan.bounds import (
    count_forks,
    count_leaves,
    critical_path,
    lower_bound,
    lower_bound_seconds,
    unique_steps,
)
from hippo.plan.claims import Claim
from hippo.plan.costs import CostModel, Overheads
from hippo.plan.frontier import Demand, Frontier, Head, Pool, Turn
from hippo.plan.marginal import marginal_seconds, marginal_steps
from hippo.plan.search_plan import (
    NO_WORK,
    Checkpoint,
    Lead,
    Metrics,
    Node,
    SearchPlan,
    StoredCheckpoint,
    TrialId,
    Want,
)
from hippo.plan.stage_tree import Stage, build_stage_tree, count_unique_steps

__all__ = [
    "NO_WORK",
    "Checkpoint",
    "Claim",
    "CostModel",
    "Demand",
    "Frontier",
    "Head",
    "Lead",
    "Metrics",
    "Node",
    "Overheads",
    "Pool",
    "SearchPlan",
    "Stage",
    "StoredCheckpoint",
    "TrialId",
    "Turn",
    "Want",
    "build_stage_tree",
    "count_forks",
    "count_leaves",
    "count_unique_steps",
    "critical_path",
    "lower_bound",
    "lower_bound_seconds",
    "marginal_seconds",
    "marginal_steps",
    "unique_steps",
]
