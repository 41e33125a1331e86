"""Random sequences, spaces and schedules, as users write them.

Numbers come from small pools, so that schedules often agree for a while and then part.
``Writer`` makes them from a ``random.Random``; the Hypothesis strategies wrap it.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

NUMBERS = (0.0, 0.1, 0.05, 0.01, 0.2, 0.025, 1.0, 0.9, 0.001, 0.3, -0.1, 1e-5)
GAMMAS = (0.1, 0.5, 0.95, 0.9, 1.0, 2.0, 0.25, 0.99, 0.0, -1.0, -0.5)
COUNTS = (1, 2, 3, 4, 5, 7, 9, 10, 12, 20, 30)


class Writer:
    """Writes values and schedules at random."""

    def __init__(self, rng: random.Random, *, plain: tuple[Any, ...] = ()) -> None:
        self._rng = rng
        self._plain = plain
        """Values that are no numbers, to be mixed in."""

    def number(self) -> float:
        return self._rng.choice(NUMBERS)

    def count(self) -> int:
        return self._rng.choice(COUNTS)

    def starts(self) -> list[int]:
        rng = self._rng
        return sorted(rng.sample(range(1, 60), rng.randint(0, 3)))

    def written(self, depth: int = 2) -> Any:
        """A value or a schedule, nested up to ``depth`` levels."""
        rng = self._rng
        kind = rng.choice(
            [
                "plain",
                "step",
                "multistep",
                "exponential",
                "linear",
                "cosine",
                "polynomial",
                "cyclic",
            ]
            + ["warmup", "piecewise", "warmup", "piecewise"] * (depth > 0)
        )
        if kind == "plain":
            return rng.choice(self._plain) if self._plain and rng.random() < 0.5 else self.number()
        if kind == "piecewise":
            entries = [[start, self.written(depth - 1)] for start in (0, *self.starts())]
            return {"piecewise": entries}
        body: dict[str, Any]
        if kind == "warmup":
            body = {"from": self.number(), "steps": self.count(), "to": self.number()}
            body["then"] = self.written(depth - 1)
        elif kind == "cyclic":
            body = {"low": self.number(), "high": self.number()}
            body |= {"up": self.count(), "down": self.count()}
        else:
            body = {"initial": self.number()}
            if kind in ("step", "multistep", "exponential"):
                body["gamma"] = rng.choice(GAMMAS)
            else:
                body |= {"final": self.number(), "steps": self.count()}
            if kind == "step":
                body["every"] = self.count()
            elif kind == "multistep":
                body["milestones"] = self.starts()
            elif kind == "polynomial":
                body["power"] = rng.randint(1, 4)
        return {kind: body}

    def rewritten(self, written: Any) -> Any:
        """Another way to write the same values at every step."""
        rng = self._rng
        if isinstance(written, int | float) and not isinstance(written, bool):
            return rng.choice(
                [
                    {"linear": {"initial": written, "final": written, "steps": self.count()}},
                    {"step": {"initial": written, "gamma": 1, "every": self.count()}},
                    {"multistep": {"initial": written, "gamma": 0.5, "milestones": [1000]}},
                    {"cosine": {"initial": written, "final": written, "steps": self.count()}},
                    {"piecewise": [[0, written], [self.count(), written]]},
                    {"warmup": {"from": written, "steps": 3, "to": written, "then": written}},
                ]
            )
        if not isinstance(written, dict):
            return {"piecewise": [[0, written], [self.count(), written]]}
        ((kind, body),) = written.items()
        if kind == "warmup":
            ramp = {"initial": body["from"], "final": body["to"], "steps": body["steps"]}
            then = self.rewritten(body["then"])
            return {"piecewise": [[0, {"linear": ramp}], [body["steps"], then]]}
        if kind == "linear":
            return rng.choice(
                [
                    {"polynomial": {**body, "power": 1}},
                    {
                        "warmup": {
                            "from": body["initial"],
                            "steps": body["steps"],
                            "to": body["final"],
                            "then": body["final"],
                        }
                    },
                ]
            )
        if kind == "exponential":
            return {"step": {**body, "every": 1}}
        if kind in ("cosine", "polynomial"):
            return {"piecewise": [[0, written], [body["steps"], body["final"]]]}
        if kind == "cyclic":
            period = body["up"] + body["down"]
            up = {"initial": body["low"], "final": body["high"], "steps": body["up"]}
            down = {"initial": body["high"], "final": body["low"], "steps": body["down"]}
            return rng.choice(
                [
                    {"piecewise": [[0, written], [period * rng.randint(1, 4), written]]},
                    {
                        "piecewise": [
                            [0, {"linear": up}],
                            [body["up"], {"linear": down}],
                            [period, written],
                        ]
                    },
                ]
            )
        if kind == "piecewise":
            return {"piecewise": [[start, self.rewritten(item)] for start, item in body]}
        return {"piecewise": [[0, written]]}

    def related(self, written: Any) -> Any:
        """A schedule that gives the same values up to some step, at least."""
        rng = self._rng
        same = self.rewritten(written) if rng.random() < 0.6 else written
        if rng.random() < 0.3:
            return same
        return {"piecewise": [[0, same], [rng.randint(1, 110), self.written(1)]]}


def _from_writer(method: str, **settings: Any) -> st.SearchStrategy[Any]:
    return st.randoms(use_true_random=False).map(
        lambda rng: getattr(Writer(rng, **settings), method)()
    )


def schedules() -> st.SearchStrategy[Any]:
    """Numbers and schedules of numbers."""
    return _from_writer("written")


def values_and_schedules() -> st.SearchStrategy[Any]:
    """Also texts, bools and lists, alone and within piecewise and warmup."""
    return _from_writer("written", plain=("sgd", "adam", True, False, [0.9, 0.999], "0.1", 1))


@st.composite
def related_schedules(draw: st.DrawFn, most: int = 6) -> list[Any]:
    """A few schedules that share beginnings."""
    rng = draw(st.randoms(use_true_random=False))
    writer = Writer(rng)
    found = [writer.written()]
    for _ in range(draw(st.integers(0, most - 1))):
        base = rng.choice(found)
        found.append(writer.written() if rng.random() < 0.2 else writer.related(base))
    return found


@st.composite
def hyperparameters(
    draw: st.DrawFn, names: tuple[str, ...] = ("batch_size", "lr", "momentum"), most: int = 8
) -> list[dict[str, Any]]:
    """Written hyper-parameters of a few trials that share beginnings."""
    pools = {name: draw(related_schedules(most=3)) for name in names}
    one = st.fixed_dictionaries({name: st.sampled_from(pool) for name, pool in pools.items()})
    return draw(st.lists(one, min_size=1, max_size=most))


@st.composite
def spaces(
    draw: st.DrawFn, names: tuple[str, ...] = ("batch_size", "lr"), *, most: int = 4
) -> dict[str, Any]:
    """Finite spaces of choices whose schedules share beginnings."""
    space = {}
    for name in names:
        choices: list[Any] = []
        for choice in draw(related_schedules(most=most)):
            if choice not in choices:
                choices.append(choice)
        space[name] = {"choices": choices}
    return space
