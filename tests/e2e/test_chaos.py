"""Some faults of the campaign; ``make chaos`` has all, and holds them against undisturbed runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import campaign
from tests.cluster import Cluster


@pytest.mark.parametrize("fault", ["operator-each-write", "operator-stale", "store-unreliable"])
def test_nothing_is_lost_and_nothing_is_trained_twice(
    cluster: Cluster, fault: str, tmp_path: Path
) -> None:
    if cluster.minio_url is None:
        pytest.skip("it needs the node of the tests")
    row = campaign.run_one(fault, tmp_path)
    assert row["problems"] == []
    assert row["injected"] > 0
    assert row["again"] == 0, "no worker was harmed, so every step is trained once"
    if fault == "operator-each-write":
        assert len(row["phases"]) > 12
