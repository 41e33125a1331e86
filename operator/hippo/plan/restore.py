"""Rebuilds the search plan and the cost model from stored records."""

from __future__ import annotations

from collections.abc import Mapping

from hippo.plan import CostModel, Metrics, SearchPlan, StoredCheckpoint
from hippo.protocol.records import Manifest
from hippo.protocol.reports import Began, CheckpointSaved, MetricsReported, Report


def build_plan(
    signature: str, manifests: Mapping[str, Manifest], reports: Mapping[str, list[Report]]
) -> SearchPlan:
    """Returns a plan that knows every stored checkpoint and result; it holds no sequence yet.

    ``manifests`` by key, ``reports`` by chain, in order.
    """
    plan = SearchPlan(signature)
    metrics: list[tuple[str, int, Metrics]] = [
        (report.key, report.step, report.metrics)
        for written in reports.values()
        for report in written
        if isinstance(report, MetricsReported)
    ]
    plan.recall(
        [StoredCheckpoint(m.key, m.step) for m in manifests.values()],
        metrics,
    )
    return plan


def build_costs(reports: Mapping[str, list[Report]]) -> CostModel:
    """Returns estimates from the measurements of earlier runs; ``reports`` by chain, in order."""
    costs = CostModel()
    for written in reports.values():
        costs.observe_mean(written[-1].trained, written[-1].train_seconds)
        for report in written:
            match report:
                case Began():
                    costs.observe("start", report.start_seconds)
                    if report.step > 0:
                        costs.observe("load", report.load_seconds)
                case CheckpointSaved():
                    costs.observe("save", report.copy_seconds)
                case MetricsReported():
                    costs.observe("evaluate", report.evaluate_seconds)
                case _:
                    pass
    costs.settle()
    return costs
