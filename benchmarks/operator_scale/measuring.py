"""What is read from ``/proc``, from ``/metrics``, and from the operator's log."""

from __future__ import annotations

import math
import os
import statistics
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

_TICKS = os.sysconf("SC_CLK_TCK")


def read_cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def read_peak_bytes(pid: int) -> int:
    """The most memory that a process had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise ValueError(f"process {pid} has no VmHWM")


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a Prometheus histogram: quantiles are interpolated within its buckets."""

    count: int
    mean: float
    median: float
    p90: float


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return bytes(answer.read()).decode()


def read_histogram(text: str, name: str) -> Spread:
    """Over all its series. NaN where nothing was observed."""
    buckets: dict[float, float] = {}
    count = total = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name == name else ():
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
            elif sample.name.endswith("_count"):
                count += sample.value
            elif sample.name.endswith("_sum"):
                total += sample.value
    mean = total / count if count else math.nan
    return Spread(int(count), mean, _quantile(buckets, 0.5), _quantile(buckets, 0.9))


def _quantile(buckets: dict[float, float], share: float) -> float:
    ordered = sorted(buckets.items())
    if not ordered or not ordered[-1][1]:
        return math.nan
    wanted = share * ordered[-1][1]
    below, before = 0.0, 0.0
    for bound, seen in ordered:
        if seen >= wanted:
            return below if math.isinf(bound) else _between(below, bound, before, seen, wanted)
        below, before = bound, seen
    return below


def _between(low: float, high: float, before: float, seen: float, wanted: float) -> float:
    return low + (high - low) * (wanted - before) / max(seen - before, 1e-9)


def measure_gaps(ends: list[float], created: list[float], pods: int) -> tuple[float, float]:
    """Median and 90th percentile from a chain's end to the next pod's creation.

    Both ascending. The first pods need nobody's end; each later one has the slot that has been free
    for longest.
    """
    gaps = sorted(pod - end for pod, end in zip(created[pods:], ends, strict=False))
    if not gaps:
        return math.nan, math.nan
    return statistics.median(gaps), gaps[int(0.9 * len(gaps))]
