"""What a stage tree saves on the suite, beside training trial by trial on the same workers.

    python -m benchmarks.savings [--output build/bench/savings.json] [--quick]

In virtual time, so the figures are the same on every machine; overheads of a start and a load are
one step each, of a save half a step. Which trials go on from a rung depends on their metrics: once
they follow learning curves that keep their order ("by metric"), once every result is drawn anew, so
that survivors are any ("at random"). Trials that are equal up to a rung tie, and a hash decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import figures, spaces
from benchmarks.scheduling import OVERHEADS
from hippo.model import Sequence, Study
from hippo.simulate import Curves, Pace, SimulationOptions, compare
from hippo.views.summary import summarise

WORKERS = 20
MORE_WORKERS = (4, 40)
BY_METRIC, AT_RANDOM = "by metric", "at random"


@dataclass(frozen=True)
class DrawnAnew:
    """Results without any memory: a hash of the content key, equal for equal beginnings."""

    def metrics(self, sequence: Sequence, step: int, seed: int) -> dict[str, float]:
        key = sequence.key(step, f"drawn {seed}")
        return {"accuracy": int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12}


@dataclass(frozen=True)
class Case:
    """``teams``: so many studies of the team space with this overlap; else one study."""

    name: str
    algorithm: str
    survivors: str
    overheads: str
    workers: int = WORKERS
    teams: int = 0

    def studies(self) -> list[Study]:
        if self.teams:
            return spaces.load_teams(self.teams, spaces.SHIFTS[self.name], self.algorithm)
        return [spaces.load(self.name, self.algorithm)]

    def curves(self, studies: list[Study]) -> Curves:
        return spaces.synthetic(studies) if self.survivors == BY_METRIC else DrawnAnew()


def cases(*, quick: bool) -> Iterator[Case]:
    names = spaces.NAMES if not quick else ("late",)
    for name in names:
        for algorithm in spaces.ALGORITHMS:
            ways = (BY_METRIC,) if algorithm == "grid" else (BY_METRIC, AT_RANDOM)
            for survivors in ways:
                for overheads in OVERHEADS:
                    yield Case(name, algorithm, survivors, overheads)
        for workers in MORE_WORKERS:
            yield Case(name, "grid", BY_METRIC, "stated", workers)
    for overlap in spaces.SHIFTS:
        for teams in spaces.TEAMS if not quick else (2,):
            for overheads in OVERHEADS:
                yield Case(overlap, "grid", BY_METRIC, overheads, teams=teams)
            for survivors in (BY_METRIC, AT_RANDOM):
                yield Case(overlap, "asha", survivors, "stated", teams=teams)


def run(case: Case) -> dict[str, Any]:
    studies, overheads = case.studies(), OVERHEADS[case.overheads]
    pace = Pace(by_values=spaces.step_seconds)
    options = SimulationOptions(case.workers, pace, overheads)
    found = compare(studies, case.curves(studies), options)
    summary, bounds = summarise(found.tree.engine), found.bounds
    bound = bounds.lower_bound if case.overheads == "none" else bounds.overhead_bound
    # What merging alone would save: of the time of all steps, not of their number.
    alone = sum(
        pace.stretch("", trial.sequence, 0, max(trial.results)).seconds[-1]
        for run in found.tree.engine.studies.values()
        for trial in run.trials
        if trial.results
    )
    return {
        "case": asdict(case),
        "trials": sum(len(run.trials) for run in found.tree.engine.studies.values()),
        "mergeRate": summary.merge_rate,
        "mergeRateByTime": alone / (bounds.work_over_workers * case.workers),
        "workerSeconds": found.tree.tally.worker_seconds,
        "makespan": found.tree.now,
        "aloneWorkerSeconds": found.alone.tally.worker_seconds,
        "aloneMakespan": found.alone.now,
        "bound": bound,
    }


def measure(*, quick: bool) -> dict[str, Any]:
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(run, cases(quick=quick)))
    return {"command": "python -m benchmarks.savings", "rows": rows}


def table(document: dict[str, Any]) -> str:
    """One study, then several; in Markdown."""
    rows = document["rows"]
    lines = ["One study:", "", _head(), *(_line(row) for row in rows if not row["case"]["teams"])]
    lines += ["", "Several studies over one plan:", "", _head()]
    lines += [_line(row) for row in rows if row["case"]["teams"]]
    return "\n".join(lines)


def _head() -> str:
    columns = (
        "trials",
        "workers",
        "overheads",
        "merge rate, steps",
        "merge rate, time",
        "worker time, alone : tree",
        "time, alone : tree",
        "bound / makespan",
    )
    return f"| studies | {' | '.join(columns)} |\n| --- |" + " ---: |" * len(columns)


def _line(row: dict[str, Any]) -> str:
    case = row["case"]
    name = f"{case['name']}, {case['algorithm']}"
    if case["teams"]:
        name = f"{case['teams']} x {case['algorithm']}, overlap {case['name']}"
    if case["algorithm"] != "grid":
        name += f", survivors {case['survivors']}"
    cells = [
        name,
        str(row["trials"]),
        str(case["workers"]),
        case["overheads"],
        f"{row['mergeRate']:.2f}",
        f"{row['mergeRateByTime']:.2f}",
        f"{row['aloneWorkerSeconds'] / row['workerSeconds']:.2f}",
        f"{row['aloneMakespan'] / row['makespan']:.2f}",
        f"{row['bound'] / row['makespan']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    figures.run(__doc__, measure, table, quick="a small part of the suite")
