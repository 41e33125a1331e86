from __future__ import annotations

import random

import numpy as np
import torch

from stage_runner.randomness import derive_seed, seed_generators


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_draws_are_a_function_of_the_label_and_numbers() -> None:
    seed_generators("step", 1, 2)
    first = draw()
    seed_generators("evaluate", 1, 2)
    other = draw()
    draw()
    seed_generators("step", 1, 2)
    assert draw() == first
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_no_two_steps_share_their_draws() -> None:
    seen = set()
    for seed in range(3):
        for step in range(50):
            seed_generators("step", seed, step)
            seen.update(draw())
    assert len(seen) == 3 * 3 * 50


def test_numbers_are_kept_apart() -> None:
    assert derive_seed("x", 1, 23) != derive_seed("x", 12, 3)
    assert 0 <= derive_seed("x", 1) < 2**63
