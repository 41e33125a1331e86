"""The search plan, and the training that is left to do in it."""

from hippo.plan.bounds import (
    count_forks,
    count_leaves,
    critical_path,
    lower_bound,
    lower_bound_seconds,
    unique_steps,
)
from hippo.plan.break_even import BreakEven, find_break_even
from hippo.plan.costs import CostModel, Overheads
from hippo.plan.frontier import Frontier, Pool, Turn
from hippo.plan.marginal import marginal_seconds, marginal_steps
from hippo.plan.nodes import (
    NO_WORK,
    Checkpoint,
    Claim,
    Demand,
    Head,
    Lead,
    Metrics,
    Node,
    TrialId,
    Want,
)
from hippo.plan.search_plan import SearchPlan, StoredCheckpoint
from hippo.plan.stage_tree import Stage, build_stage_tree, count_unique_steps

__all__ = [
    "NO_WORK",
    "BreakEven",
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
    "find_break_even",
    "lower_bound",
    "lower_bound_seconds",
    "marginal_seconds",
    "marginal_steps",
    "unique_steps",
]
