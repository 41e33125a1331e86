"""The marginal cost of a trial: the training that it would add to the plan.

The *marginal steps* of a sequence up to step s are the steps of the stage tree with s wanted, minus
those of the stage tree as it is. So

- metrics that are known or wanted already cost nothing;
- planned or running training is free as far as the sequence agrees with it: a fork only cuts it;
- past training is free only where its state can still be had. A prefix whose states were deleted
  costs again from the last state that is left. So do steps that a running chain has passed without
  saving.

It thus suffices to find the last step before s whose state is at hand: stored, promised by a
running chain, or on the way of work still to be done. Training starts there.
"""

from __future__ import annotations

from hippo.model import Sequence
from hippo.plan.costs import CostModel
from hippo.plan.nodes import Node
from hippo.plan.search_plan import SearchPlan


def marginal_steps(plan: SearchPlan, sequence: Sequence, steps: int) -> int:
    """Returns the training steps that a trial of ``sequence`` up to ``steps`` would add.

    The result is ``unique_steps(build_stage_tree(plan))`` with the trial wanted, minus the same
    without it; steps that running chains have passed without saving count again. The plan is not
    changed, and its frontier must be up to date (``Frontier.refresh``). The time is proportional to
    the nodes passed, plus one key per distinct step that the store held beforehand, not to the
    plan.

    Raises ValueError unless 1 <= steps <= sequence.steps.
    """
    begun = _begun(plan, sequence, steps)
    return 0 if begun is None else steps - begun


def marginal_seconds(plan: SearchPlan, sequence: Sequence, steps: int, costs: CostModel) -> float:
    """Like ``marginal_steps`` in estimated worker-seconds, including overheads.

    Overheads are its evaluation and, if anything must be trained, a save, the start of a worker and
    the load of a state. Returns 0 if metrics at ``steps`` are known or wanted already.
    """
    begun = _begun(plan, sequence, steps)
    if begun is None:
        return 0.0
    overheads = costs.overheads
    if begun == steps:
        return overheads.evaluate
    trained = costs.seconds(sequence, begun, steps)
    return costs.switch + trained + overheads.save + overheads.evaluate


def _begun(plan: SearchPlan, sequence: Sequence, steps: int) -> int | None:
    """Returns the step from which the trial must be trained; None if it needs nothing new."""
    if not 1 <= steps <= sequence.steps:
        raise ValueError(f"no step {steps} in a sequence of {sequence.steps} steps")
    found, agreed = plan.find(sequence)
    if steps <= agreed:
        node = found.at(steps)
        if steps in node.metrics or steps in node.wants:
            return None
    elif plan.has_in_store(sequence, steps):
        return None
    else:
        stored = plan.latest_in_store(sequence, agreed, steps)
        if stored is not None:
            return stored
    last = min(agreed, steps)
    while last > 0:
        node = found.at(last)
        position = _last_at_hand(node, last)
        if position is not None:
            return position
        last = node.start
    return 0


def _last_at_hand(node: Node, last: int) -> int | None:
    """Returns the last step t <= ``last`` of a node whose state needs no more training, or None."""
    positions = set(node.checkpoints)
    for claim in node.claims:
        positions.update(step for step in claim.saves() if node.start < step <= node.end)
    best = max((step for step in positions if step <= last), default=node.start)
    for claim in node.claims:
        step = min(last, claim.stop_at)
        while step > best and step in claim.refused:
            step -= 1
        if step > best and claim.can_be_asked(step):
            best = step
    for target in _open_targets(node, positions):
        begun = max((step for step in positions if step <= target), default=node.start)
        step = min(last, target)
        if step > max(begun, best):
            best = step
    return best if best > node.start else None


def _open_targets(node: Node, positions: set[int]) -> list[int]:
    """Returns the steps of a node that will be trained although no chain is on its way there."""
    targets = [
        step
        for step in node.wants
        if not any(claim.promises_metrics(step) for claim in node.claims)
    ]
    awaited = node.demanding is not None and bool(node.demanding.demands)
    if awaited and node.end not in positions:
        targets.append(node.end)
    return targets
