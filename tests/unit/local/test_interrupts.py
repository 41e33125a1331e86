"""Signals to a run: the first stops it in order, the second at once."""

from __future__ import annotations

import signal

import pytest

from hippo.local import RunStopped
from hippo.local.interrupts import AT_ONCE, Interrupts, describe_stopping


def test_a_signal_before_training_ends_the_run() -> None:
    interrupts = Interrupts()
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.handle_signals(), pytest.raises(RunStopped, match="before training began"):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_are_taken_one_by_one_and_the_third_leaves_a_loop_that_hangs() -> None:
    interrupts = Interrupts()
    interrupts.begin()
    assert (interrupts.take(), interrupts.explain()) == (None, None)
    with interrupts.handle_signals():
        signal.raise_signal(signal.SIGINT)
        assert interrupts.take() == 1
        assert interrupts.explain() == "stopped; everything is saved, run again to go on"
        signal.raise_signal(signal.SIGTERM)
        assert (interrupts.take(), interrupts.take()) == (2, None)
        assert interrupts.explain() == AT_ONCE
        with pytest.raises(RunStopped, match="at once"):
            signal.raise_signal(signal.SIGTERM)


def test_chains_that_could_not_save_are_named() -> None:
    interrupts = Interrupts(count=1, heeded=1, given_up=["c1", "c2", "c3", "c4", "c5"])
    said = interrupts.explain()
    assert said is not None
    assert said.startswith("stopped; c1, c2, c3 and 2 more could not save in time:")


def test_what_stopping_takes_is_said() -> None:
    assert describe_stopping(0, 0.0) == "stopping"
    assert "the worker saves" in describe_stopping(1, 30.0)
    assert "2 workers save" in describe_stopping(2, 30.0)
