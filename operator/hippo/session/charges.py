"""Charges of studies so far, across runs and crashes.

The engine splits the cost of a stage over the studies that ask for it at that time, which no report
says. So the driver records the sums from time to time, with the number of reports that they cover.
If a run is killed, the cost of later reports is split evenly over the studies for which the chain
was launched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hippo.protocol.records import Spending, Spent
from hippo.protocol.reports import Began, Report

_CHAIN = re.compile(r"r(\d+)-\d+")


def chain_prefix(generation: int) -> str:
    """Return the name prefix of all chains launched under this generation of the lock."""
    return f"r{generation}"


def settle(noted: Spending | None, reports: Mapping[str, Sequence[Report]]) -> dict[str, Spent]:
    """Return the charge of each study from all reports."""
    spent = dict(noted.studies) if noted is not None else {}
    for chain, told in reports.items():
        began = told[0]
        counted = _count_noted(noted, chain, len(told))
        if not isinstance(began, Began) or not began.studies or counted >= len(told):
            continue
        last, before = told[-1], told[counted - 1] if counted else None
        seconds = last.worker_seconds - (before.worker_seconds if before is not None else 0.0)
        steps = last.trained - (before.trained if before is not None else 0)
        for name in began.studies:
            known = spent.get(name, Spent())
            spent[name] = Spent(
                worker_seconds=known.worker_seconds + seconds / len(began.studies),
                steps_trained=known.steps_trained + steps / len(began.studies),
            )
    return spent


def _count_noted(noted: Spending | None, chain: str, reports: int) -> int:
    """Return how many of a chain's reports the recorded sums cover."""
    match = _CHAIN.fullmatch(chain)
    if noted is None or match is None:
        return 0
    if chain in noted.counted:  # launched or adopted by that run
        return noted.counted[chain]
    return reports if int(match[1]) < noted.generation else 0
