"""What a run tells on the way."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from hippo.cli.render.progress import Progress
from hippo.session.stalls import Stall


def test_chains_that_fail_alike_are_told_once() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=200))
    for attempt in (1, 2):
        for chain in ("r1-00001", "r1-00002"):
            message = f"KeyError: 'x'; its log: /logs/{chain}.log; retry {attempt} of 3 in 1 s"
            progress.notified(message, "a")
    progress.notified("KeyError: 'x'; its log: /logs/r1-00003.log; retry 1 of 3 in 1 s", "b")
    for _ in range(2):
        progress.notified("suspended", "a")  # of no worker: told whenever it happens
    told = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert told == [
        "a: KeyError: 'x'; its log: /logs/r1-00001.log; retry 1 of 3 in 1 s",
        "a: KeyError: 'x'; its log: /logs/r1-00001.log; retry 2 of 3 in 1 s",
        "b: KeyError: 'x'; its log: /logs/r1-00003.log; retry 1 of 3 in 1 s",
        "a: suspended",
        "a: suspended",
    ]


def test_a_stall_is_told_at_once_and_whenever_it_has_doubled() -> None:
    stream = io.StringIO()
    progress = Progress(Console(file=stream, width=200))
    stall = Stall("r1-00001", "a", "step", 3, 120.0, "pid 7")
    other = Stall("r1-00002", "b", "evaluate", 6, 130.0, "pid 8")
    for seconds in (120.0, 121.0, 239.0, 240.0, 479.0):
        progress.stalled([replace(stall, seconds=seconds), other])
    progress.stalled([])
    progress.stalled([replace(stall, step=4, seconds=150.0)])
    told = [line.split("  ", 1)[1] for line in stream.getvalue().splitlines()]
    assert told == [
        "a: no step has ended for 2 min: r1-00001 stands at step 3, pid 7",
        "b: evaluate() has not ended for 2 min: r1-00002 stands at step 6, pid 8",
        "a: no step has ended for 4 min: r1-00001 stands at step 3, pid 7",
        "a: no step has ended for 2 min: r1-00001 stands at step 4, pid 7",
    ]
