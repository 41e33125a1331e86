"""Compares the same studies with merging and trial by trial, on the same workers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hippo.model import Study
from hippo.simulate.bounds import Bounds, find_bounds
from hippo.simulate.curves import Curves
from hippo.simulate.simulation import Simulation, SimulationOptions


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two finished simulations, and lower bounds for the first one."""

    tree: Simulation
    alone: Simulation
    bounds: Bounds

    @property
    def speedup(self) -> float:
        return self.alone.now / self.tree.now if self.tree.now else 1.0

    @property
    def saving(self) -> float:
        """Worker-seconds of trial-by-trial training, relative to the stage tree's."""
        spent = self.tree.tally.worker_seconds
        return self.alone.tally.worker_seconds / spent if spent else 1.0


def compare(studies: list[Study], curves: Curves, options: SimulationOptions) -> Comparison:
    """Simulates the same trials both ways. Ignores ``options.merge``. Raises InvalidSpec.

    If decisions depend on the order of results, the second simulation repeats those of the first.
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
