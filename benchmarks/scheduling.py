"""How close the scheduler is to what no schedule can beat, beside other policies.

    python -m benchmarks.scheduling [--output build/bench/scheduling.json] [--quick]

The suite of ``benchmarks/spaces`` in virtual time: nothing is measured by a clock, so the figures
are the same on every machine. Overheads are those of a start and a load of one step each, and a
save of half a step. "Bound" is C* without overheads (with rungs the sum over rungs of C* of each
rung's forest), and with them max(C*, (work + leaves * (start + load) + forks * save) / workers).
Both take limits into account (``hippo/simulate/bounds.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from benchmarks import figures, spaces
from benchmarks.policies import POLICIES
from hippo.engine import Engine
from hippo.model import Study
from hippo.plan import Overheads
from hippo.simulate import Pace, Simulation, SimulationOptions, find_bounds

WORKERS = (4, 8, 20, 40)
OVERHEADS = {"none": Overheads(), "stated": Overheads(start=1, load=1, save=0.5)}
NOISE = 0.2
"""Standard deviation of the logarithm of a step's time."""
APART = 60.0
"""Seconds between the arrivals of studies that come one after the other."""
OURS = "least laxity"
ALONE = "trial by trial"
LIMITS = {"as many as there are workers": 1, "half as many": 2, "a quarter as many": 4}
"""``parallelism`` of each study, in words: the workers over it. Four studies with a quarter each
have the workers of a cluster, where there are as many as studies may have in all.
"""


@dataclass(frozen=True)
class Case:
    """One run. ``workload`` names what is trained: see :meth:`studies`."""

    workload: str
    workers: int
    overheads: str
    policy: str
    noise: float = 0.0
    apart: float = 0.0
    limit: str = ""  # one of LIMITS

    def studies(self) -> list[Study]:
        name, _, algorithm = self.workload.partition(" ")
        if name in spaces.SHIFTS:
            studies = spaces.load_teams(4, spaces.SHIFTS[name])
        else:
            studies = [spaces.load(name, algorithm)]
        if not self.limit:
            return studies
        return [spaces.limit(study, self.workers // LIMITS[self.limit]) for study in studies]


@dataclass
class Row:
    case: Case
    makespan: float
    bound: float
    worker_seconds: float
    trials: int
    stopped: int
    saves: int


def cases(*, quick: bool) -> Iterator[Case]:
    """Every workload under every policy."""
    plain = [f"{name} grid" for name in spaces.NAMES]
    tuned = [f"{name} {tuner}" for name in ("mixed", "late") for tuner in ("sha", "pbt")]
    tuned += [f"{name} {tuner}" for name in ("mixed", "late") for tuner in ("hyperband", "asha")]
    if quick:
        plain, tuned = ["late grid"], ["late sha"]
    for workload in [*plain, *tuned, "half", "most"]:
        for overheads in OVERHEADS:
            for workers in WORKERS:
                for policy in [*POLICIES, ALONE]:
                    yield Case(workload, workers, overheads, policy)
    for workload in plain[-2:]:
        for workers in WORKERS:
            for policy in [*POLICIES, ALONE]:
                yield Case(workload, workers, "stated", policy, noise=NOISE)
    for workers in WORKERS:
        for policy in [*POLICIES, ALONE]:
            yield Case("half", workers, "stated", policy, apart=APART)
    yield from _limited_cases(quick=quick)


def _limited_cases(*, quick: bool) -> Iterator[Case]:
    """Single studies at a limit that takes nothing away, and half; teams at limits that bind."""
    whole, half, quarter = LIMITS
    single = ["late sha"] if quick else ["late grid", "late sha", "late pbt"]
    rows = [(limit, workload, "none") for limit in (whole, half) for workload in single]
    rows += [(quarter, team, overheads) for overheads in OVERHEADS for team in spaces.SHIFTS]
    for limit, workload, overheads in rows:
        for workers in WORKERS:
            for policy in [*POLICIES, ALONE]:
                yield Case(workload, workers, overheads, policy, limit=limit)


def run(case: Case) -> Row:
    studies, overheads = case.studies(), OVERHEADS[case.overheads]
    pace = Pace(by_values=spaces.step_seconds, noise=case.noise)
    options = SimulationOptions(
        case.workers,
        pace,
        overheads,
        merge=case.policy != ALONE,
        arrivals={study.name: index * case.apart for index, study in enumerate(studies)},
    )
    engine = partial(Engine, policy=POLICIES.get(case.policy, POLICIES[OURS]))
    simulation = Simulation(studies, spaces.synthetic(studies), options, create_engine=engine).run()
    bounds = find_bounds(simulation.engine, case.workers, pace, overheads)
    tally = simulation.tally
    return Row(
        case,
        makespan=simulation.now,
        bound=bounds.lower_bound if case.overheads == "none" else bounds.overhead_bound,
        worker_seconds=tally.worker_seconds,
        trials=sum(len(run.trials) for run in simulation.engine.studies.values()),
        stopped=tally.stopped,
        saves=tally.saves,
    )


def measure(*, quick: bool) -> dict[str, Any]:
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(run, cases(quick=quick)))
    return {"command": "python -m benchmarks.scheduling", "rows": [asdict(row) for row in rows]}


def table(document: dict[str, Any]) -> str:
    """Bound / makespan by workload and workers, for each policy; in Markdown."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in document["rows"]:
        case = row["case"]
        kind = (case["overheads"], case["noise"], case["apart"], case.get("limit", ""))
        place = (*kind, case["workload"], case["workers"])
        found.setdefault(place, {})[case["policy"]] = row
    groups: dict[tuple[Any, ...], list[str]] = {}
    for place, policies in found.items():
        groups.setdefault(place[:4], []).append(_line(place, policies))
    parts = [
        "\n".join([f"{_describe(*heading)}:", "", _head(), *lines])
        for heading, lines in groups.items()
    ]
    return "\n\n".join(parts)


def _describe(overheads: str, noise: float, apart: float, limit: str) -> str:
    text = "No overheads" if overheads == "none" else "Start and load 1 step each, save 0.5"
    text += f", step times vary by {noise:.0%}" if noise else ""
    text += f", a study every {apart:g} s (no bound)" if apart else ""
    return text + (f", `parallelism` of each study {limit}" if limit else "")


def _head() -> str:
    policies = " | ".join(POLICIES)
    head = f"| studies | trials | workers | {policies} | yields | time, trial by trial : ours |"
    return head + "\n| --- |" + " ---: |" * (len(POLICIES) + 4)


def _line(place: tuple[Any, ...], policies: dict[str, dict[str, Any]]) -> str:
    ours = policies[OURS]
    reference = ours["makespan"] if place[2] else None
    cells = [
        f"{(reference or policies[name]['bound']) / policies[name]['makespan']:.3f}"
        for name in POLICIES
    ]
    yields = ours["stopped"] - policies["critical path"]["stopped"]
    faster = policies[ALONE]["makespan"] / ours["makespan"]
    row = [place[4], str(ours["trials"]), str(place[5]), *cells, str(yields), f"{faster:.2f}"]
    return f"| {' | '.join(row)} |"


if __name__ == "__main__":
    figures.run(__doc__, measure, table, quick="a small part of the suite")
