"""What ``evaluate`` may return."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.model.foreign import MAX_METRIC_NAME, MAX_METRICS
from stage_runner.metrics import InvalidTrainer, check_metrics


def test_as_many_as_can_be_kept() -> None:
    most = {f"{n:0{MAX_METRIC_NAME}}": 0.5 for n in range(MAX_METRICS)}
    assert check_metrics(most) == most


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (
            {f"layer.{n}": 0.5 for n in range(45_000)},
            "evaluate() returns 45000 metrics: at most 1000 can be kept; leave out 'layer.1000' and"
            " what follows, or return sums and means",
        ),
        ({"x" * 257: 1.0}, "has 257 characters: at most 256 can be kept"),
        ({"x" * 10_000_000: 1.0}, "has 10000000 characters: at most 256 can be kept"),
        ({"a\ud800": 1.0}, "the name of metric 'a\\ud800' is no text"),
        ({b"a" * 10_000: 1.0}, "the name of a metric must be a string, not b'aaa"),
        ({"a": "x" * 10_000}, "metric 'a' must be a number, not str ('xxx"),
        ({"a": 10**400}, "metric 'a' is too large"),
        ({"a": True}, "metric 'a' must be a number"),
        ({}, "must return metrics by name"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(returned: Any, said: str) -> None:
    with pytest.raises(InvalidTrainer) as caught:
        check_metrics(returned)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400
