"""Settings of all tests."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A gate must give the same verdict on the same commit; searching goes on at every developer's desk.
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.register_profile("nightly", deadline=None, print_blob=True)
usual = "gate" if os.environ.get("CI") == "true" else "desk"
settings.load_profile(os.environ.get("HIPPO_TEST_PROFILE", usual))


def _let_children_heed_signals() -> None:
    """Where this run is to ignore signals, as under nohup or as a job of a script, it alone does.

    What a process ignores, its children ignore from their start; what it handles, they do not.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


if threading.current_thread() is threading.main_thread():
    _let_children_heed_signals()


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Logs nothing: for tests in which thousands of things go wrong on purpose."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
