"""The cluster that all tests in here share. It is left running: the next run is quicker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import Cluster, open_cluster, programs

_SECONDS = 600.0
_SECONDS_OF_THE_FIRST_TIME = 4500.0


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return open_cluster()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first may have to wait until everything is built."""
    is_built = all(recipe.is_built for recipe in programs.ALL)
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker(
            "timeout"
        ):
            seconds = _SECONDS if is_built else _SECONDS_OF_THE_FIRST_TIME
            item.add_marker(pytest.mark.timeout(seconds))
