"""What keys of an S3 may do, with a real server: docs/security.md shows the policies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from hippo.store import StoreError, open_blobs
from tests.integration.runs import Place
from tests.minio_server import ADMIN, BUCKET, PASSWORD, MinioServer

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
SPACE: dict[str, Any] = {"lr": [0.1, {"piecewise": [[0, 0.1], [5, 0.01]]}]}
SECRET = "a-secret-nobody-else-may-see"


def read_policy(heading: str) -> dict[str, Any]:
    """The JSON that the page shows below a heading, for this test's bucket and namespace."""
    text = PAGE.read_text().partition(f"### {heading}\n")[2]
    found = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"docs/security.md shows no policy below {heading}"
    policy = found[1].replace("my-bucket/studies", f"{BUCKET}/studies")
    made: dict[str, Any] = json.loads(policy.replace("my-bucket", BUCKET))
    return made


def make_user(minio: MinioServer, name: str, policy: dict[str, Any], folder: Path) -> None:
    credentials = StaticProvider(ADMIN, PASSWORD)
    admin = MinioAdmin(
        endpoint=minio.address, credentials=credentials, region="us-east-1", secure=False
    )
    file = folder / f"{name}.json"
    file.write_text(json.dumps(policy))
    admin.policy_add(name, str(file))
    admin.user_add(name, SECRET)
    admin.attach_policy([name], user=name)


def use(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def test_keys_of_one_namespace_suffice_and_reach_no_other(
    place: Place, own_minio: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"s3://{BUCKET}/studies"
    make_user(own_minio, "team-a", read_policy("Keys of one namespace"), tmp_path)
    other = open_blobs(store)  # as an administrator
    other.put("team-b/plan/study.json", b"of another team")

    use(monkeypatch, "team-a")
    study = place.study("study", SPACE)
    document = json.loads(study.read_text())
    document["metadata"]["namespace"] = "team-a"
    study.write_text(json.dumps(document))
    result = place.run(study, "--store", store)
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}

    blobs = open_blobs(store)
    for harm in (
        lambda: blobs.get("team-b/plan/study.json"),
        lambda: blobs.put("team-b/plan/study.json", b"changed"),
        lambda: blobs.delete("team-b/plan/study.json"),
        lambda: blobs.list("team-b/"),
        lambda: blobs.list(""),
    ):
        with pytest.raises(StoreError):
            harm()
    assert other.get("team-b/plan/study.json") == b"of another team"


def test_the_operators_keys_suffice_for_the_whole_prefix(
    own_minio: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user(own_minio, "operator", read_policy("The operator's keys"), tmp_path)
    use(monkeypatch, "operator")
    blobs = open_blobs(f"s3://{BUCKET}/studies")
    assert blobs.put("team-a/plan/one", b"1", if_absent=True)
    assert [info.name for info in blobs.list("")] == ["team-a/plan/one"]
    blobs.delete("team-a/plan/one")
    with pytest.raises(StoreError):
        open_blobs(f"s3://{BUCKET}/elsewhere").put("team-a/plan/one", b"1")


@pytest.mark.parametrize("harm", ["wrong key", "no such bucket", "nobody listens", "bad address"])
def test_no_secret_is_told_whatever_fails(
    place: Place, own_minio: MinioServer, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    monkeypatch.setenv("HIPPO_S3_PATIENCE", "1")
    store = f"s3://{BUCKET}/studies"
    if harm == "no such bucket":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
        monkeypatch.delenv("AWS_SESSION_TOKEN")
        store = "s3://nowhere/studies"
    elif harm == "nobody listens":
        own_minio.stop()
    elif harm == "bad address":
        address = own_minio.address
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET}@{address}")
    study = place.study("study", SPACE)
    done = place.call("run", study, "--store", store, status=None)
    assert done.status != 0
    told = done.stdout + done.stderr
    for file in (place.folder / ".hippo-logs").rglob("*.log"):
        told += file.read_text(errors="replace")
    assert done.errors
    assert SECRET not in told
    assert PASSWORD not in told
