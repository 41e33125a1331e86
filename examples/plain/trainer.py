"""A trainer without any library: logistic regression on two interleaved half-moons."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from stage_runner import Trainer

Sample = tuple[tuple[float, ...], int]


class MoonsTrainer(Trainer):
    """One step is one epoch of stochastic gradient descent.

    Config: ``samples`` (default 200). Hyper-parameters: ``lr``, ``weight_decay``.
    """

    def setup(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        # A separate generator, seeded alike, gives all chains the same data.
        generator = random.Random(self.seed)
        samples = [make_sample(generator) for _ in range(config.get("samples", 200))]
        self.train, self.held_out = samples[: len(samples) // 2], samples[len(samples) // 2 :]
        self.weights = [0.0] * len(samples[0][0])

    def step(self, hparams: Mapping[str, Any]) -> dict[str, float]:
        lr, decay = hparams["lr"], hparams["weight_decay"]
        # The runner seeds Python's global generator at every step: the order is reproducible.
        for features, label in random.sample(self.train, len(self.train)):
            error = self.predict(features) - label
            self.weights = [
                weight - lr * (error * feature + decay * weight)
                for weight, feature in zip(self.weights, features, strict=True)
            ]
        return {"train_loss": self.loss(self.train)}

    def evaluate(self) -> dict[str, float]:
        right = sum((self.predict(x) > 0.5) == label for x, label in self.held_out)
        return {"accuracy": right / len(self.held_out), "loss": self.loss(self.held_out)}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = list(state["weights"])

    def predict(self, features: tuple[float, ...]) -> float:
        """The probability of label 1."""
        score = sum(w * x for w, x in zip(self.weights, features, strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))

    def loss(self, samples: list[Sample]) -> float:
        """Mean cross-entropy."""
        return -math.fsum(
            math.log(self.predict(x) if label else 1 - self.predict(x)) for x, label in samples
        ) / len(samples)


def make_sample(generator: random.Random) -> Sample:
    """A point of one of two half-moons, with cubic features and a constant."""
    label = generator.randrange(2)
    angle = generator.uniform(0, math.pi)
    x, y = math.cos(angle), math.sin(angle)
    if label:
        x, y = 1 - x, 0.5 - y
    x += generator.gauss(0, 0.15)
    y += generator.gauss(0, 0.15)
    return (1.0, x, y, x * x, x * y, y * y, x * x * x, y * y * y), label
