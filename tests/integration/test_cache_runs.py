"""Studies over a bucket, behind the cache of one machine: what was written is not downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import use
from tests.integration.faulty_proxy import FaultyProxy
from tests.integration.runs import Place
from tests.integration.test_s3_runs import metrics_of
from tests.minio_server import BUCKET, MinioServer

SPACE = {
    "lr": [0.1, {"piecewise": [[0, 0.1], [4, 0.01]]}, {"piecewise": [[0, 0.1], [8, 0.01]]}],
    "momentum": [0.9, 0.5],
}
SPEC: dict[str, Any] = {
    "steps": 12,
    "trainer": {"entrypoint": "walk:Walk", "config": {"ballast": 100_000}},
}
FORKS = 4  # at steps 4 and 8, for each momentum; each is where one more chain begins


@pytest.fixture
def proxy(minio: MinioServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    use(minio, monkeypatch)
    with FaultyProxy(minio.address).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def downloads(proxy: FaultyProxy) -> list[str]:
    """Requests for the data of checkpoints."""
    return [line for line in proxy.seen if line.startswith("GET ") and "/data/" in line]


def run(place: Place, tmp_path: Path, name: str) -> Any:
    study = place.study("study", SPACE, **SPEC)
    return place.run(study, "--store", f"s3://{BUCKET}/{tmp_path.name}/{name}", workers=1)


def test_chains_on_one_machine_download_nothing(
    place: Place, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = run(place, tmp_path, "cached")
    assert downloads(proxy) == []
    assert not (place.folder / ".hippo-logs" / ".cache").exists(), "cleared at the end"
    monkeypatch.setenv("HIPPO_CACHE_BYTES", "0")
    without = run(place, tmp_path, "without")
    assert len(downloads(proxy)) == FORKS
    assert metrics_of(cached) == metrics_of(without)


def test_a_folder_that_the_user_names_is_left_with_what_is_retained(
    place: Place, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIPPO_CACHE_DIR", str(tmp_path / "cache"))
    run(place, tmp_path, "store")
    assert downloads(proxy) == []
    (manifest,) = place.manifests(f"s3://{BUCKET}/{tmp_path.name}/store").values()
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [manifest.sha256]


def test_a_cache_that_cannot_be_costs_downloads_and_a_line_in_the_log(
    place: Place, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HIPPO_CACHE_DIR", str(tmp_path / "file" / "cache"))
    result = run(place, tmp_path, "store")
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}
    assert len(downloads(proxy)) == FORKS
    logs = [file.read_text() for file in place.folder.glob(".hippo-logs/default/*/*.log")]
    line = f"checkpoints are not kept in {tmp_path}/file/cache: Not a directory; going on without\n"
    assert {log.count(line) for log in logs} == {1}
