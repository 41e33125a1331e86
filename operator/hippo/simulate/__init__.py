"""Simulation of studies in virtual time."""

from hippo.simulate.bounds import Bounds, find_bounds
from hippo.simulate.comparison import Comparison, compare
from hippo.simulate.curves import Curves, RecordedCurves, SyntheticCurves
from hippo.simulate.pace import Pace
from hippo.simulate.recorded_curves import find_curves
from hippo.simulate.simulation import Simulation, SimulationOptions, Tally

__all__ = [
    "Bounds",
    "Comparison",
    "Curves",
    "Pace",
    "RecordedCurves",
    "Simulation",
    "SimulationOptions",
    "SyntheticCurves",
    "Tally",
    "compare",
    "find_bounds",
    "find_curves",
]
