"""Trains sequences alone, each from step 0, with a loop written by hand: no stage, no store.

    python oracle.py FOLDER module:Class REQUEST ANSWER

REQUEST is a JSON list of [hyperparameters, horizon, steps at which to evaluate]; the seed is 0, and
so is the config empty. ANSWER lists for each the metrics (as hexadecimal floats) and a digest of
the state at each of these steps.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def digest(state: Any) -> str:
    """Of plain data, arrays and tensors, to the last bit."""
    hashed = hashlib.sha256()

    def feed(value: Any) -> None:
        hashed.update(f"<{type(value).__name__}>".encode())
        if isinstance(value, dict):
            for key in sorted(value, key=repr):
                hashed.update(repr(key).encode())
                feed(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                feed(item)
        elif hasattr(value, "numpy"):
            array = value.detach().cpu().numpy()
            hashed.update(f"{array.dtype} {array.shape}".encode())
            hashed.update(array.tobytes())
        else:
            hashed.update(
                value.hex().encode() if isinstance(value, float) else repr(value).encode()
            )

    feed(plain(state))
    return hashed.hexdigest()


def plain(value: Any) -> Any:
    """Ordered and other dictionaries are alike."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


def train_alone(trainer_class: Any, hyperparameters: Any, horizon: int, steps: list[int]) -> Any:
    from hippo.model import Sequence
    from stage_runner.randomness import seed_generators

    sequence = Sequence.of(hyperparameters, horizon)
    seed_generators("setup", 0)
    trainer = trainer_class()
    trainer.setup({}, sequence.values(0))
    answer = {}
    for step in range(max(steps)):
        seed_generators("step", 0, step)
        trainer.step(sequence.values(step))
        if step + 1 in steps:
            seed_generators("evaluate", 0, step + 1)
            metrics = trainer.evaluate()
            answer[step + 1] = {
                "metrics": {name: float(value).hex() for name, value in metrics.items()},
                "state": digest(trainer.state_dict()),
            }
    return answer


def main(folder: str, entrypoint: str, request: str, answer: str) -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    sys.path.insert(0, folder)
    module, _, name = entrypoint.partition(":")
    trainer_class = getattr(importlib.import_module(module), name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    asked = json.loads(Path(request).read_text())
    Path(answer).write_text(json.dumps([train_alone(trainer_class, *item) for item in asked]))


if __name__ == "__main__":
    main(*sys.argv[1:])
