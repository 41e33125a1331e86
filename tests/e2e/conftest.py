"""The cluster that all tests in here share. It is left running: the next run is quicker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, open_cluster, programs
from tests.e2e.crds import install
from tests.e2e.site import Site

_SECONDS = 600.0
_SECONDS_OF_THE_FIRST_TIME = 4500.0


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return open_cluster()


@pytest.fixture
def site(cluster: Cluster, crds: None, tmp_path: Path) -> Iterator[Site]:
    """A namespace of its own; its operator is for the test to start."""
    site = Site(cluster, f"e2e-{uuid.uuid4().hex[:8]}", tmp_path / "operator.log")
    site.set_up()
    yield site
    site.tear_down()


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    install(cluster)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first may have to wait until everything is built."""
    is_built = all(recipe.is_built for recipe in programs.ALL)
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker(
            "timeout"
        ):
            seconds = _SECONDS if is_built else _SECONDS_OF_THE_FIRST_TIME
            item.add_marker(pytest.mark.timeout(seconds))
