"""A trainer without PyTorch, whose state depends on all hyper-parameters, and on chance."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import signal
import sys
import time
from typing import Any

from stage_runner import Trainer


def count(config: dict[str, Any], step: int, state: object) -> None:
    """Append what is about to be trained, so that a test can see who trained what."""
    if "count_file" in config:
        digest = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
        descriptor = os.open(config["count_file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{step} {digest}\n".encode())
        os.close(descriptor)


class PlainTrainer(Trainer):
    """Config: ``count_file``; ``sleep`` (seconds a step); ``fail_at``, ``nan_at``, ``hang_at``,
    ``hold_at`` (steps; the last hangs with Python's lock).
    """

    def setup(self, config, hparams):
        self.config = config
        self.trained = 0
        self.weights = [random.random() for _ in range(4)]
        self.velocity = [0.0] * 4

    def step(self, hparams):
        count(self.config, self.trained, self.state_dict())
        if self.config.get("fail_at") == self.trained:
            raise ValueError("told to\nfail")
        if self.config.get("hang_at") == self.trained:
            time.sleep(3600)
        if self.config.get("hold_at") == self.trained:
            sum(itertools.repeat(0))
        time.sleep(self.config.get("sleep", 0.0))
        pull = sum(_number(value) * (i + 1) for i, (_, value) in enumerate(sorted(hparams.items())))
        for i in range(4):
            self.velocity[i] = 0.9 * self.velocity[i] + pull * random.gauss(0.0, 1.0)
            self.weights[i] += 0.1 * math.sin(self.velocity[i]) + 1e-3 * pull
        self.trained += 1
        return {"speed": self.velocity[0]}

    def evaluate(self):
        if self.config.get("nan_at") == self.trained:
            return {"score": float("nan")}
        return {"score": sum(self.weights), "noise": random.random()}

    def state_dict(self):
        return {"trained": self.trained, "weights": self.weights, "velocity": self.velocity}

    def load_state_dict(self, state):
        self.trained, self.weights, self.velocity = (
            state["trained"],
            state["weights"],
            state["velocity"],
        )


def _number(value: object) -> float:
    if isinstance(value, str):
        return float(int(hashlib.sha256(value.encode()).hexdigest()[:6], 16)) * 1e-6
    if isinstance(value, list):
        return sum(_number(item) for item in value)
    return float(value)


class Forgetful(PlainTrainer):
    """Does not save its velocity."""

    def state_dict(self):
        return {"trained": self.trained, "weights": self.weights}

    def load_state_dict(self, state):
        self.trained, self.weights = state["trained"], state["weights"]


class Disturbed(PlainTrainer):
    """Its evaluation changes what is trained."""

    def evaluate(self):
        self.weights[0] *= 1.5
        return super().evaluate()


class Moody(PlainTrainer):
    """Depends on the process."""

    def step(self, hparams):
        self.weights[1] += os.getpid()
        return super().step(hparams)


class Secretive(PlainTrainer):
    """Cannot be saved."""

    def state_dict(self):
        return {"rng": {"own": random.Random(1)}, **super().state_dict()}


class Rounding(PlainTrainer):
    """Restores something else than was saved, as libraries do that cast."""

    def load_state_dict(self, state):
        super().load_state_dict({**state, "weights": [round(w, 3) for w in state["weights"]]})


class Restless(PlainTrainer):
    """Counts how often it was saved."""

    saves = 0

    def state_dict(self):
        self.saves += 1
        return {**super().state_dict(), "saves": self.saves}


class Unprepared(PlainTrainer):
    """Its evaluation needs what only a step makes."""

    def step(self, hparams):
        self.seen = super().step(hparams)
        return self.seen

    def evaluate(self):
        return {**super().evaluate(), **self.seen}


class Fragile(PlainTrainer):
    """The second process of a check does not bear it: killed, or by an exception."""

    def step(self, hparams):
        if "--digests" in sys.argv and self.config["end"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if "--digests" in sys.argv:
            raise KeyError("there")
        return super().step(hparams)


class Wordy(PlainTrainer):
    """Its evaluation returns no number."""

    def evaluate(self):
        return {"score": "high"}


_FACTOR = [1.0]


class Setting(PlainTrainer):
    """Changes a module's variable in its first step, for all steps."""

    def step(self, hparams):
        if self.trained == 0:
            _FACTOR[0] = 0.5
        self.weights[2] *= _FACTOR[0]
        return super().step(hparams)


class Counting(PlainTrainer):
    """Counts steps in the class."""

    steps = 0

    def step(self, hparams):
        Counting.steps += 1
        self.weights[2] *= 1 + 0.1 * Counting.steps
        return super().step(hparams)


class Ordered(PlainTrainer):
    """Follows the order of a set of texts."""

    def step(self, hparams):
        for name in {f"layer{number}" for number in range(40)}:
            self.weights[2] = 0.9 * self.weights[2] + int(name[5:])
        return super().step(hparams)


class Greedy(PlainTrainer):
    """Takes what it needs out of what it is given."""

    def setup(self, config, hparams):
        super().setup(config, hparams)
        self.pull = config.pop("pull")

    def step(self, hparams):
        hparams["pair"].append(hparams.pop("lr"))
        return super().step(hparams)


class Unfinished(Trainer):
    """Lacks most of it."""

    def setup(self, config, hparams):
        pass


class NoTrainer:
    pass
