"""A store on a real S3 that is reached through a proxy alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hippo.store import StoreError
from hippo.store.s3.bucket import S3Blobs
from hippo.store.s3.settings import read_settings
from tests.integration.forward_proxy import WORD, ForwardProxy
from tests.integration.runs import HIPPO
from tests.minio_server import BUCKET, MinioServer

LARGE = [bytes([i]) * 1_000_000 for i in range(40)]
NAME = "store.example.org"  # which nobody but the proxy can find


@pytest.fixture
def proxy(minio: MinioServer) -> Iterator[ForwardProxy]:
    with ForwardProxy(minio.address).running() as proxy:
        yield proxy


def settings_of(minio: MinioServer, **more: str) -> dict[str, str]:
    endpoint = f"http://{NAME}:{minio.port}"
    return {**minio.settings, "AWS_ENDPOINT_URL": endpoint, "HIPPO_S3_PATIENCE": "5", **more}


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_store_is_used_through_the_proxy(
    minio: MinioServer, proxy: ForwardProxy, tmp_path: Path, variable: str
) -> None:
    environment = settings_of(minio, **{variable: proxy.url})
    blobs = S3Blobs(read_settings(f"s3://{BUCKET}/{tmp_path.name}", environment))
    for data in (b"", b"small", LARGE, iter(LARGE)):
        blobs.put("a", data)
    assert blobs.put("a", b"other", if_absent=True) is False
    with blobs.stream("a") as file:
        assert file.read(1_000_000) == LARGE[0]
    assert [info.size for info in blobs.list("")] == [40_000_000]
    blobs.delete("a")
    assert blobs.list("") == []
    assert proxy.refused == 0
    assert all(f" http://{NAME}:{minio.port}/{BUCKET}" in seen for seen in proxy.seen)


def test_a_proxy_that_refuses_is_named_at_once(
    minio: MinioServer, proxy: ForwardProxy, tmp_path: Path
) -> None:
    url = f"http://someone:wrong-{WORD.replace('/', '')}@{proxy.place}"
    blobs = S3Blobs(read_settings(f"s3://{BUCKET}/a", settings_of(minio, HTTP_PROXY=url)))
    with pytest.raises(
        StoreError, match=r"the proxy http://127\.0\.0\.1:\d+ \(HTTP_PROXY\)"
    ) as error:
        blobs.list("")
    assert "wrong" not in str(error.value)
    assert proxy.refused == 1


def test_who_is_exempt_and_loopback_are_asked_directly(
    minio: MinioServer, proxy: ForwardProxy, tmp_path: Path
) -> None:
    environment = settings_of(minio, HTTP_PROXY=proxy.url, HIPPO_S3_PATIENCE="0.5")
    blobs = S3Blobs(read_settings(f"s3://{BUCKET}/a", {**environment, "NO_PROXY": ".example.org"}))
    with pytest.raises(StoreError, match=f"{NAME}:{minio.port} cannot be reached"):
        blobs.list("")
    blobs = S3Blobs(
        read_settings(f"s3://{BUCKET}/a", {**environment, "AWS_ENDPOINT_URL": minio.endpoint})
    )
    blobs.put("a", b"1")
    assert proxy.seen == []


def test_a_secure_store_is_reached_by_a_tunnel(tmp_path: Path) -> None:
    """And its certificate is checked: the proxy cannot read along."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    server = MinioServer(tmp_path / "minio", is_secure=True)
    try:
        server.start()
        server.make_bucket(BUCKET)
        with ForwardProxy(server.address).running() as proxy:
            environment = settings_of(server, HTTPS_PROXY=proxy.url)
            environment["AWS_ENDPOINT_URL"] = f"https://{NAME}"
            environment["AWS_CA_BUNDLE"] = str(server.certificate)
            blobs = S3Blobs(read_settings(f"s3://{BUCKET}/a", environment))
            with pytest.raises(StoreError, match="certificate verify failed: Hostname mismatch"):
                blobs.list("")
            assert proxy.seen == [f"CONNECT {NAME}:443"]
    finally:
        server.stop()


def test_the_command_goes_through_the_proxy_and_prints_no_password(
    minio: MinioServer, proxy: ForwardProxy, tmp_path: Path
) -> None:
    settings = settings_of(minio, HTTP_PROXY=proxy.url, HOME=str(tmp_path))
    command = [HIPPO, "store", "ls", f"s3://{BUCKET}/none"]
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert proxy.seen
    assert WORD not in done.stdout + done.stderr
