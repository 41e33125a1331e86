"""Reads learning curves from a store in which the same trainer was used."""

from __future__ import annotations

from typing import Any

from hippo.model import InvalidSpec, signature
from hippo.plan import Metrics
from hippo.protocol.reports import MetricsReported
from hippo.simulate.curves import RecordedCurves
from hippo.store import Blobs, PlanStore, list_plans


def find_curves(
    blobs: Blobs, source: str, namespace: str, document: dict[str, Any], seed: int
) -> RecordedCurves:
    """Returns the metrics of this trainer's plan with the most results.

    ``document`` is what the trainer's results depend on; the machine is ignored. Raises InvalidSpec
    if there are no results; StoreError.
    """
    found: list[RecordedCurves] = []
    for path in list_plans(blobs, namespace):
        store = PlanStore(blobs, path)
        known = store.read_signature()
        if known is None or {**known, "fingerprint": None} != {**document, "fingerprint": None}:
            continue
        recorded: dict[str, Metrics] = {
            report.key: report.metrics
            for reports in store.load().reports.values()
            for report in reports
            if isinstance(report, MetricsReported)
        }
        found.append(RecordedCurves(signature(known), recorded, source, seed))
    if not any(curves.recorded for curves in found):
        raise InvalidSpec.at(
            "--curves",
            f"{source} holds no results of this trainer: run a study of it there first, by a grid"
            " over the same space for instance",
        )
    return max(found, key=lambda curves: len(curves.recorded))
