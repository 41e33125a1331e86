"""Studies trained over a bucket: the same results as in a folder, whatever happens to the driver or
to the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs import Place, wait_until
from tests.integration.test_run_crashes import find_covered
from tests.minio_server import BUCKET, MinioServer

SPACE = {
    "lr": [0.1, {"piecewise": [[0, 0.1], [10, 0.01]]}, {"piecewise": [[0, 0.1], [20, 0.01]]}],
    "momentum": [0.9, 0.5],
}
SPEC: dict[str, Any] = {
    "steps": 30,
    "trainer": {"entrypoint": "walk:Walk", "config": {"sleep": 0.03}},
    "checkpoints": {"retain": "all"},
}
UNIQUE = 2 * (30 + 20 + 10)


def metrics_of(result: Any) -> dict[str, Any]:
    return {trial["trial"]: (trial["phase"], trial["metrics"]) for trial in result["trials"]}


def test_a_bucket_serves_as_well_as_a_folder(place: Place, s3_url: str, tmp_path: Path) -> None:
    study = place.study("study", SPACE, **SPEC)
    process = place.start("run", study, "--store", s3_url, "--workers", "2")
    wait_until(lambda: len(place.trained()) > UNIQUE // 3, "a third is trained")
    place.kill(process)
    covered, known = find_covered(place, s3_url), len(place.trained())
    result = place.run(study, "--store", s3_url)
    assert not covered & {after for _, after in place.trained()[known:]}
    assert len(set(place.trained())) == UNIQUE
    calm = Place(tmp_path / "calm")
    in_folder = calm.run(calm.study("study", SPACE, **SPEC))
    assert metrics_of(result) == metrics_of(in_folder)
    assert result["best"] == in_folder["best"]
    assert not place.store_folder.exists()
    assert list((place.folder / ".hippo-logs").glob("default/*/*.log"))

    place.call("export", study, "--best", "--store", s3_url, "--file", "best.pt")
    assert (place.folder / "best.pt").stat().st_size > 0
    second = place.run(place.study("second", SPACE, **SPEC), "--store", s3_url)
    assert second["stepsTrained"] == 0
    assert {trial["metrics"]["score"] for trial in second["trials"]} == {
        trial["metrics"]["score"] for trial in result["trials"]
    }
    listed = place.call("store", "ls", s3_url).stdout
    assert "study" in listed
    assert "second" in listed
    place.call("store", "gc", s3_url)
    assert place.manifests(s3_url), "what the studies retain"


@pytest.mark.parametrize("trouble", ["stopped", "frozen"])
def test_a_store_that_fails_in_mid_run_costs_nothing_that_was_saved(
    place: Place, own_minio: MinioServer, trouble: str
) -> None:
    url = f"s3://{BUCKET}/prefix"
    study = place.study("study", SPACE, **SPEC)
    process = place.start("run", study, "--store", url, "--workers", "2")
    wait_until(lambda: len(place.trained()) > UNIQUE // 3, "a third is trained")
    if trouble == "stopped":
        own_minio.stop()
        done = place.finish(process, status=1)
        own_minio.start()
    else:
        with own_minio.frozen():
            done = place.finish(process, status=1)
    (error,) = done.errors
    said = "cannot be reached" if trouble == "stopped" else "is too slow: no answer in 3 s"
    assert f"{own_minio.endpoint} {said}" in error
    assert done.stdout == ""
    assert not place.processes()
    covered, known = find_covered(place, url), len(place.trained())
    assert covered
    result = place.run(study, "--store", url)
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}
    assert not covered & {after for _, after in place.trained()[known:]}
    assert len(set(place.trained())) == UNIQUE


def test_a_short_outage_is_waited_for(
    place: Place, own_minio: MinioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIPPO_S3_PATIENCE", "60")  # longer than the server takes to start anywhere
    study = place.study("study", SPACE, **SPEC)
    process = place.start(
        "run", study, "--store", f"s3://{BUCKET}/prefix", "--workers", "2", "-o", "json"
    )
    wait_until(lambda: len(place.trained()) > UNIQUE // 3, "a third is trained")
    own_minio.stop()
    own_minio.start()
    result = place.finish(process).json()
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}
    assert place.check_nothing_twice() == UNIQUE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses the credentials (SignatureDoesNotMatch)"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "refuses the credentials (InvalidAccessKeyId)"),
        ({"AWS_ACCESS_KEY_ID": ""}, "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "check AWS_ENDPOINT_URL and that it runs"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "AWS_ENDPOINT_URL is no address"),
    ],
)
def test_wrong_settings_are_one_clear_line(
    place: Place,
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    says: str,
) -> None:
    for name, value in {**change, "HIPPO_S3_PATIENCE": "1"}.items():
        monkeypatch.setenv(name, value)
    study = place.study("study", SPACE, **SPEC)
    done = place.call("run", study, "--store", s3_url, status=1)
    (error,) = done.errors
    assert says in error
    assert done.stdout == ""
    assert "wrong" not in done.stderr
    assert not place.trained()
