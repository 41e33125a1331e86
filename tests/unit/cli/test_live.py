"""What a run tells on the way."""

from __future__ import annotations

import io

from rich.console import Console

from hippo.cli.live import Progress


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
