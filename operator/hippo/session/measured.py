"""Times that earlier runs of a trainer have measured: of a step, and of what comes with it."""

from __future__ import annotations

from dataclasses import dataclass

from hippo.model import InvalidSpec, TrainerSpec
from hippo.plan import Overheads
from hippo.plan.restore import build_costs
from hippo.store import Blobs, PlanStore, list_plans


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over the chains of one plan, in seconds."""

    source: str
    plan: str
    chains: int
    steps: int
    step: float
    overheads: Overheads


def find_measured(
    blobs: Blobs, source: str, namespace: str, trainer: TrainerSpec, option: str
) -> Measured:
    """Return the times of the plan in which this trainer has trained the most steps.

    The trainer's entry point and config count; its code, image and seed may have changed since.
    ``option`` names the command-line option that gave ``source``. Raises InvalidSpec if there is no
    such plan; StoreError.
    """
    found: list[Measured] = []
    for path in list_plans(blobs, namespace):
        store = PlanStore(blobs, path)
        known = store.read_signature()
        wanted = (trainer.entrypoint, trainer.config)
        if known is None or (known.get("entrypoint"), known.get("config")) != wanted:
            continue
        reports = store.load().reports
        costs = build_costs(reports)
        steps = sum(written[-1].trained for written in reports.values())
        if steps and costs.mean_step > 0:
            overheads, chains = costs.overheads, len(reports)
            found.append(Measured(source, store.plan, chains, steps, costs.mean_step, overheads))
    if not found:
        raise InvalidSpec.at(
            option,
            f"{source} holds no run of {trainer.entrypoint} with this config in namespace"
            f" {namespace}: run a study of it there first",
        )
    return max(found, key=lambda measured: measured.steps)
