"""What a store knows of a plan, as the core takes it: a trie that knows it, and measured costs."""

from __future__ import annotations

from hippo.plan import CostModel, Metrics, SearchPlan, StoredCheckpoint
from hippo.store import PlanRecords
from hippo.store.records import Began, CheckpointSaved, MetricsReported


def build_plan(signature: str, records: PlanRecords) -> SearchPlan:
    """A plan that knows every checkpoint and result of the store; it holds no sequence yet."""
    plan = SearchPlan(signature)
    metrics: list[tuple[str, int, Metrics]] = [
        (report.key, report.step, report.metrics)
        for reports in records.reports.values()
        for report in reports
        if isinstance(report, MetricsReported)
    ]
    plan.recall(
        [
            StoredCheckpoint(m.key, m.step, m.size, m.state_digest)
            for m in records.manifests.values()
        ],
        metrics,
    )
    return plan


def build_costs(records: PlanRecords) -> CostModel:
    """Estimates from what earlier runs have measured."""
    costs = CostModel()
    for reports in records.reports.values():
        costs.observe_mean(reports[-1].trained, reports[-1].train_seconds)
        for report in reports:
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
