"""A trainer without PyTorch that notes every step it trains, and misbehaves where told to.

``counts.txt`` beside this file gets a line for each step trained: the history before, the history
after. A history is a hash of everything that was trained to get there, so a line names a step of a
prefix by its content, whoever trains it.

Config: ``sleep`` (seconds a step), ``ballast`` (bytes in a checkpoint), ``at`` (the step of a
misdeed, default 3). The hyper-parameter ``mode`` names a misdeed.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from stage_runner import Trainer

HERE = Path(__file__).resolve().parent


def note(file, *words):
    descriptor = os.open(HERE / file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (" ".join(words) + "\n").encode())
    os.close(descriptor)


def continued(history, hparams):
    """The history after one more step with these values."""
    return hashlib.sha256(f"{history} {json.dumps(hparams)}".encode()).hexdigest()[:16]


class Walk(Trainer):
    """Its weights depend on every hyper-parameter at every step, and on chance."""

    def setup(self, config, hparams):
        self.config = config
        self.mode = hparams.get("mode", "good")
        self.misbehave("setup", 0)
        self.history = "start"
        self.trained = 0
        self.weights = [random.random() for _ in range(4)]
        self.velocity = [0.0] * 4

    def step(self, hparams):
        time.sleep(self.config.get("sleep", 0.0))
        self.misbehave("step", self.trained)
        for i in range(4):
            pull = sum(
                value * (i + j + 1)
                for j, (_, value) in enumerate(sorted(hparams.items()))
                if not isinstance(value, str)
            )
            momentum = hparams.get("momentum", 0.9)
            self.velocity[i] = momentum * self.velocity[i] + pull * random.gauss(0.0, 1.0)
            self.weights[i] += 0.1 * math.sin(self.velocity[i]) + 1e-3 * pull
        self.trained += 1
        before, self.history = self.history, continued(self.history, hparams)
        note("counts.txt", before, self.history)
        return {"speed": self.velocity[0]}

    def evaluate(self):
        note("evaluations.txt", self.history)
        self.misbehave("evaluate", self.trained)
        returned = {
            "evaluate nothing": None,
            "evaluate list": [1.0],
            "evaluate text": {"score": "high"},
            "evaluate other": {"loss": 1.0},
            "evaluate nan": {"score": math.nan},
            "evaluate inf": {"score": -math.inf},
        }
        if self.mode in returned:
            return returned[self.mode]
        return {"score": math.fsum(self.weights), "noise": random.random()}

    def state_dict(self):
        self.misbehave("save", self.trained)
        state = {
            "history": self.history,
            "trained": self.trained,
            "weights": self.weights,
            "velocity": self.velocity,
            "ballast": "x" * self.config.get("ballast", 0),
        }
        return {**state, "own": random.Random(1)} if self.mode == "save odd" else state

    def load_state_dict(self, state):
        self.misbehave("load", self.trained)
        self.history, self.trained = state["history"], state["trained"]
        self.weights, self.velocity = list(state["weights"]), list(state["velocity"])

    def misbehave(self, during, step):
        place, _, what = self.mode.partition(" ")
        if place != during or (during == "step" and step < self.config.get("at", 3)):
            return
        match what:
            case "raise":
                raise ValueError(f"told to\nfail in {during}")
            case "raise once" if not (HERE / "raised").exists():
                (HERE / "raised").touch()
                raise ValueError(f"told to fail in {during} once")
            case "exit":
                sys.exit(7)
            case "end":
                os._exit(7)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "memory":
                raise MemoryError
            case "hang":
                time.sleep(3600)
            case "hang once" if not (HERE / "hung").exists():
                (HERE / "hung").touch()
                time.sleep(3600)
            case "spin":
                while True:
                    pass
            case "hold":  # Python's lock is not let go, and no signal is looked at
                sum(itertools.repeat(0))
            case "wait":
                loader = threading.Thread(target=fail_to_load, name="loader")
                loader.start()
                threading.Event().wait()
            case "interrupt":
                raise KeyboardInterrupt
            case "generator":
                raise GeneratorExit
            case "base":
                raise BaseException("odd one")
            case "cancel":
                raise asyncio.CancelledError
            case "recur":
                self.misbehave(during, step)
            case "iterate":
                next(iter([]))
            case "mute":
                raise Mute
            case "long":
                raise ValueError("line\n" * 1_000_000)
            case "coded":
                raise ValueError("\x1b[31mred\x1b[0m \udcff \0")
            case "group":
                raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
            case "quote":  # as PyTorch's data loader does
                raise ValueError(f"Caught in a worker.\nOriginal {quote()}")
            case "leave":
                os._exit(0)
            case "spawn":
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
            case "fork":
                if os.fork() == 0:
                    sys.exit(0)
            case "fork back":
                os.fork()
            case "close":
                os.close(1)
                os.close(2)
                self.mode = "good"
            case "shut":
                sys.stderr.close()
                sys.stdout = None
                raise ValueError("told to fail without a word")
            case "shut hang":
                sys.stderr.close()
                time.sleep(3600)
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")


def fail_to_load():
    raise OSError("no such shard")


def quote():
    try:
        fail_to_load()
    except OSError:
        return traceback.format_exc()


class Stillborn(Walk):
    def __init__(self):
        raise RuntimeError("not today")


class Forgetful(Walk):
    """Does not save its velocity."""

    def state_dict(self):
        return {key: item for key, item in super().state_dict().items() if key != "velocity"}

    def load_state_dict(self, state):
        super().load_state_dict({**state, "velocity": self.velocity})


class Restless(Walk):
    """Draws from a generator of its own, which no one seeds."""

    def step(self, hparams):
        self.weights[1] += random.SystemRandom().random()
        return super().step(hparams)


class Disturbed(Walk):
    """Its evaluation changes what is trained."""

    def evaluate(self):
        self.weights[0] *= 1.5
        return super().evaluate()


class Secretive(Walk):
    """Depends on a counter that it does not save."""

    def setup(self, config, hparams):
        super().setup(config, hparams)
        self.epoch = 0

    def step(self, hparams):
        self.epoch += 1
        self.weights[2] += 0.01 * self.epoch
        return super().step(hparams)


class NoTrainer:
    pass
