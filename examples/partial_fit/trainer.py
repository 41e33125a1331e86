"""A trainer for an estimator of scikit-learn; any estimator with ``partial_fit`` works alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

from stage_runner import Trainer

HELD_OUT = 500
"""Pictures that are never trained on."""

DIGITS = np.arange(10)

LEARNED = ("coef_", "intercept_", "t_")
"""All attributes of the estimator that carry over from one ``partial_fit`` to the next."""


class PartialFitTrainer(Trainer):
    """Logistic regression on random Fourier features of handwritten digits.

    One step is one pass over the training data, about 0.03 s. Config: ``features`` (default 800),
    ``gamma`` (of the kernel, default 0.2). Hyper-parameters: ``eta0`` (learning rate), ``alpha``
    (weight of the L2 penalty).
    """

    def setup(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        digits = load_digits()
        gamma, features = config.get("gamma", 0.2), config.get("features", 800)
        sampler = RBFSampler(gamma=gamma, n_components=features, random_state=self.seed)
        pictures = sampler.fit_transform(digits.data / 16)
        order = np.random.default_rng(0).permutation(len(pictures))
        train, held_out = order[HELD_OUT:], order[:HELD_OUT]
        self.train = pictures[train], digits.target[train]
        self.held_out = pictures[held_out], digits.target[held_out]
        # Without a random_state it shuffles by NumPy's global generator: the runner seeds that
        # at every step. A RandomState of its own would have to be in state_dict().
        self.model = SGDClassifier(loss="log_loss", learning_rate="constant")
        self.load_state_dict(
            {"coef_": np.zeros((10, features)), "intercept_": np.zeros(10), "t_": 1.0}
        )

    def step(self, hparams: Mapping[str, Any]) -> None:
        self.model.set_params(eta0=float(hparams["eta0"]), alpha=float(hparams["alpha"]))
        self.model.partial_fit(*self.train, classes=DIGITS)

    def evaluate(self) -> dict[str, float]:
        pictures, labels = self.held_out
        likely = self.model.predict_proba(pictures)
        right = likely.argmax(axis=1) == labels
        return {"accuracy": right.mean(), "loss": log_loss(labels, likely, labels=DIGITS)}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self.model, name) for name in LEARNED}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.classes_ = DIGITS
        for name in LEARNED:
            setattr(self.model, name, state[name])
