"""Fixtures of tests that start real processes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hippo.store import open_blobs
from tests import builds, minio_server
from tests.integration.runs import Place
from tests.minio_server import BUCKET, MinioServer

OWN_S3 = "HIPPO_TEST_S3"
"""Names an S3 of your own, as s3://bucket/prefix, to test with instead of a MinIO server."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "a place")  # paths may hold spaces
    yield place
    place.clean_up()


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """A server for all tests that leave it running."""
    server = MinioServer(tmp_path_factory.mktemp("minio"))
    server.start()
    server.make_bucket(BUCKET)
    yield server
    server.stop()


@pytest.fixture
def own_minio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MinioServer]:
    """A server to do harm to; whoever is started from here uses it, with little patience."""
    server = MinioServer(tmp_path / "minio")
    server.start()
    server.make_bucket(BUCKET)
    use(server, monkeypatch)
    monkeypatch.setenv("HIPPO_S3_PATIENCE", "3")
    yield server
    server.stop()


@pytest.fixture
def s3_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new, empty store on S3."""
    own = os.environ.get(OWN_S3)
    if own is None:
        use(request.getfixturevalue("minio"), monkeypatch)
    url = f"{own or f's3://{BUCKET}'}/{uuid.uuid4().hex}"
    yield url
    if own is not None:
        blobs = open_blobs(url)
        for info in blobs.list(""):
            blobs.delete(info.name)
        blobs.clean(older_than_seconds=-60)


def use(server: MinioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "HIPPO_S3_"))]:
        monkeypatch.delenv(name)
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first may have to wait until the server is built."""
    if minio_server.RECIPE.is_built:
        return
    for item in items:
        if {"minio", "own_minio", "s3_url"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(builds.BUILD_SECONDS))
