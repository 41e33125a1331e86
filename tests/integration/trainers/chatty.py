"""A trainer that talks wherever it can, goes elsewhere, and returns odd progress."""

from __future__ import annotations

import os
import subprocess

from walk import Walk


def talk():
    print("words")
    os.write(1, b"raw words\n")
    os.write(2, b"caf\xe9, which is no UTF-8\n")
    subprocess.run(["echo", "words of a child"], check=True)


talk()
os.chdir("/")


class Chatty(Walk):
    def setup(self, config, hparams):
        talk()
        super().setup(config, hparams)

    def step(self, hparams):
        talk()
        super().step(hparams)
        odd = [None, {"loss": float("nan")}, {"loss": object()}, "text", {3: 4}, [1]]
        return odd[self.trained % len(odd)]

    def evaluate(self):
        talk()
        return super().evaluate()
