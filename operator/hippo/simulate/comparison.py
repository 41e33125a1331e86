"""The same studies through a stage tree and trial by trial, on the same workers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hippo.model import Study
from hippo.simulate.bounds import Bounds, find_bounds
from hippo.simulate.curves import Curves
from hippo.simulate.simulation import Simulation, SimulationOptions


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two simulations that have ended, and what the first could not have beaten."""

    tree: Simulation
    alone: Simulation
    bounds: Bounds

    @property
    def speedup(self) -> float:
        return self.alone.now / self.tree.now if self.tree.now else 1.0

    @property
    def saving(self) -> float:
        """How many times as many worker-seconds training trial by trial takes."""
        spent = self.tree.tally.worker_seconds
        return self.alone.tally.worker_seconds / spent if spent else 1.0


def compare(studies: list[Study], curves: Curves, options: SimulationOptions) -> Comparison:
    """The same trials both ways. Raises InvalidSpec. ``options.merge`` is of no account.

    Where decisions depend on the order of results, the second repeats those of the first.
    """
    tree = Simulation(studies, curves, replace(options, merge=True)).run()
    by_order = {
        run.name: tuple(tree.decisions.get(run.name, ()))
        for run in tree.engine.studies.values()
        if run.tuner.by_order is not None
    }
    followed = {**options.followed, **by_order}
    alone = Simulation(studies, curves, replace(options, merge=False, followed=followed)).run()
    bounds = find_bounds(tree.engine, options.workers, options.pace, options.overheads)
    return Comparison(tree, alone, bounds)
