"""Successive halving (K. Jamieson and A. Talwalkar, AISTATS 2016), as in Hyperband's inner loop."""

from __future__ import annotations

from hippo.tune.halving import HalvingTuner


class ShaTuner(HalvingTuner):
    """One bracket with all trials, which begin at the first rung."""
