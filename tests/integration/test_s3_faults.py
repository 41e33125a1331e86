"""What fails between us and S3: waited for where that helps, else told in one line; a write is
never taken for another one's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from minio import MinioAdmin
from minio.credentials import StaticProvider

from hippo.store import Blobs, MissingBlob, StoreError, open_blobs
from hippo.store.s3.bucket import S3Blobs
from hippo.store.s3.settings import read_settings
from tests.integration.conftest import use
from tests.integration.faulty_proxy import FaultyProxy, first
from tests.minio_server import ADMIN, BUCKET, PASSWORD, MinioServer

LARGE = [bytes([i]) * 1_000_000 for i in range(40)]
URL = f"s3://{BUCKET}/prefix"


@pytest.fixture
def proxy(minio: MinioServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(minio.address).running() as proxy:
        yield proxy


@pytest.fixture
def blobs(minio: MinioServer, proxy: FaultyProxy, tmp_path: Path) -> S3Blobs:
    """A store of its own behind the proxy."""
    environment = {
        **minio.settings,
        "AWS_ENDPOINT_URL": proxy.endpoint,
        "HIPPO_S3_PATIENCE": "3",
    }
    return S3Blobs(read_settings(f"s3://{BUCKET}/{tmp_path.name}", environment))


def line_of(error: pytest.ExceptionInfo[StoreError]) -> str:
    line = str(error.value)
    assert "\n" not in line
    assert PASSWORD not in line
    return line


# -- what passes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["refuse", "lose"])
@pytest.mark.parametrize("if_absent", [False, True])
def test_a_write_whose_answer_is_lost_is_known_as_our_own(
    blobs: S3Blobs, proxy: FaultyProxy, fault: str, if_absent: bool
) -> None:
    proxy.rule = first(fault, method="PUT", times=2)
    assert blobs.put("a", b"ours", if_absent=if_absent) is True
    proxy.rule = first(fault, method="PUT", times=2)
    if if_absent:
        assert blobs.put("a", b"theirs", if_absent=True) is False
    assert blobs.get("a") == b"ours"


@pytest.mark.parametrize("fault", ["refuse", "lose"])
@pytest.mark.parametrize("if_absent", [False, True])
@pytest.mark.parametrize(
    ("method", "having"), [("POST", "uploads="), ("PUT", "partNumber=2"), ("POST", "uploadId=")]
)
def test_so_is_a_large_one(
    blobs: S3Blobs, proxy: FaultyProxy, fault: str, if_absent: bool, method: str, having: str
) -> None:
    proxy.rule = first(fault, method=method, having=having)
    assert blobs.put("a", LARGE, if_absent=if_absent) is True
    assert blobs.get("a") == b"".join(LARGE)
    assert blobs.put("a", iter(LARGE), if_absent=True) is False


@pytest.mark.parametrize("fault", ["refuse", "lose", "halve"])
def test_reads_begin_again(blobs: S3Blobs, proxy: FaultyProxy, fault: str) -> None:
    blobs.put("a", LARGE)
    proxy.rule = first(fault, method="GET", times=2)
    assert blobs.get("a") == b"".join(LARGE)
    proxy.rule = first(fault, method="GET", times=2)
    with blobs.stream("a") as file:
        assert [file.read(1_000_000) for _ in range(41)] == [*LARGE, b""]
    proxy.rule = first(fault, method="GET", times=2)
    assert [info.name for info in blobs.list("")] == ["a"]


def test_a_broken_stream_goes_on_where_it_was(blobs: S3Blobs, proxy: FaultyProxy) -> None:
    blobs.put("a", LARGE)
    proxy.seen.clear()
    proxy.rule = first("halve", method="GET")
    with blobs.stream("a") as file:
        assert file.read() == b"".join(LARGE)
    assert len(proxy.seen) == 2


def test_a_broken_stream_never_goes_on_with_another_blob(
    blobs: S3Blobs, proxy: FaultyProxy
) -> None:
    blobs.put("a", LARGE)
    proxy.rule = first("halve", method="GET")
    with blobs.stream("a") as file:
        assert file.read(1_000_000) == LARGE[0]
        blobs.put("a", LARGE[::-1])
        with pytest.raises(StoreError, match="changed while it was read"):
            file.read()
    proxy.rule = first("halve", method="GET")
    with blobs.stream("a") as file:
        assert file.read(1_000_000) == LARGE[-1]
        blobs.delete("a")
        with pytest.raises(MissingBlob):
            file.read()


def test_a_long_list_has_pages_and_one_that_fails_is_asked_for_again(
    blobs: S3Blobs, proxy: FaultyProxy
) -> None:
    names = [f"a/{number:04d}" for number in range(2100)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: blobs.put(name, b""), names))
    proxy.rule = first("lose", method="GET", having="continuation-token", times=2)
    proxy.seen.clear()
    assert [info.name for info in blobs.list("a/")] == names
    assert len(proxy.seen) == 5, "three pages, one of them three times"
    assert [info.name for info in blobs.list("a/", after="a/0999")] == names[1000:]


# -- what does not ---------------------------------------------------------------------------------


def test_a_server_that_does_not_honour_conditions_is_no_store(
    blobs: S3Blobs, proxy: FaultyProxy
) -> None:
    proxy.rule = lambda method, path: "agree" if len(proxy.seen) == 2 else None
    with pytest.raises(StoreError) as error:
        blobs.put("a", b"one", if_absent=True)
    assert line_of(error).endswith(
        "does not honour If-None-Match, so two writers could both be first: upgrade the server, or"
        " use another --store"
    )


def test_a_server_that_keeps_failing(blobs: S3Blobs, proxy: FaultyProxy) -> None:
    proxy.rule = lambda method, path: "refuse"
    with pytest.raises(StoreError, match="answers with HTTP status 503") as error:
        blobs.put("plan/a", b"")
    assert line_of(error).startswith(f"cannot write {blobs}/plan/a: {proxy.endpoint} ")
    proxy.seen.clear()
    with pytest.raises(StoreError, match="503"):
        blobs.get("plan/a")
    assert len(proxy.seen) == 1, "patience is spent once"
    proxy.rule = first("refuse", method="PUT", times=2)
    with pytest.raises(StoreError, match="503"):
        blobs.put("plan/a", b"")
    assert blobs.list("") == []
    blobs.put("plan/a", b"")
    blobs.delete("plan/a")
    proxy.rule = first("lose", method="PUT", having="partNumber=2", times=99)
    with pytest.raises(StoreError, match="cannot be reached"):
        blobs.put("plan/a", LARGE)
    proxy.rule = lambda method, path: None
    assert blobs.list("") == []
    assert blobs.clean(older_than_seconds=-60) == 0, "the parts are gone"


def test_a_server_that_is_no_s3(minio: MinioServer, proxy: FaultyProxy) -> None:
    environment = {**minio.settings, "HIPPO_S3_PATIENCE": "1"}
    endpoint = f"https://{minio.address}"
    blobs = S3Blobs(read_settings(URL, {**environment, "AWS_ENDPOINT_URL": endpoint}))
    with pytest.raises(StoreError, match="no secure connection") as error:
        blobs.put("a", b"")
    assert "check AWS_ENDPOINT_URL, or set AWS_CA_BUNDLE" in line_of(error)
    endpoint = f"{minio.endpoint}/path"
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL is no address"):
        read_settings(URL, {**environment, "AWS_ENDPOINT_URL": endpoint})
    proxy.rule = lambda method, path: "agree"
    blobs = S3Blobs(read_settings(URL, {**environment, "AWS_ENDPOINT_URL": proxy.endpoint}))
    for call in (lambda: blobs.list(""), lambda: blobs.put("a", LARGE)):
        with pytest.raises(StoreError, match="does not answer as S3 does: check AWS_ENDPOINT_URL"):
            call()


def test_a_bucket_that_is_not_there(minio: MinioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(minio, monkeypatch)
    blobs = open_blobs("s3://no-such-bucket/prefix")
    for call in (
        lambda: blobs.put("a", b""),
        lambda: blobs.put("a", b"", if_absent=True),
        lambda: blobs.put("a", LARGE),
        lambda: blobs.put("a", LARGE, if_absent=True),
        lambda: blobs.get("a"),
        lambda: blobs.list(""),
        lambda: blobs.delete("a"),
        lambda: blobs.clean(older_than_seconds=0),
    ):
        with pytest.raises(StoreError, match=r"create it \(aws s3 mb s3://no-such-bucket") as error:
            call()
        assert not isinstance(error.value, MissingBlob)
        assert "there is no bucket no-such-bucket at http://127.0.0.1" in line_of(error)


def test_a_user_who_may_only_read(minio: MinioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(minio, monkeypatch)
    open_blobs(URL).put("readable", b"1")
    keys = StaticProvider(ADMIN, PASSWORD)
    admin = MinioAdmin(endpoint=minio.address, credentials=keys, secure=False)
    admin.user_add("reader", "reader-password")
    admin.attach_policy(["readonly"], user="reader")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "reader-password")
    blobs = open_blobs(URL)
    assert blobs.get("readable") == b"1"
    for action, right, call in [
        ("write", "s3:PutObject", lambda: blobs.put("a", b"")),
        ("write", "s3:PutObject", lambda: blobs.put("a", b"", if_absent=True)),
        ("write", "s3:PutObject", lambda: blobs.put("a", LARGE)),
        ("delete", "s3:DeleteObject", lambda: blobs.delete("readable")),
        ("list", "s3:ListBucket", lambda: blobs.list("")),
        ("clean", "s3:ListBucketMultipartUploads", lambda: blobs.clean(older_than_seconds=0)),
    ]:
        with pytest.raises(StoreError, match="permission denied") as error:
            call()
        assert line_of(error).startswith(f"cannot {action} {URL}")
        assert f"allow this user {right}" in line_of(error)


def fill(blobs: Blobs) -> None:
    for number in range(100):
        blobs.put(f"a/{number}", LARGE[0] * 5)


def test_a_full_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        assert os.environ.get("CI") != "true", mounted.stderr
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    server = MinioServer(folder)
    try:
        server.start()
        server.make_bucket(BUCKET)
        use(server, monkeypatch)
        blobs = open_blobs(URL)
        with pytest.raises(StoreError, match=r"no space left \(XMinioStorageFull\)") as error:
            fill(blobs)
        assert line_of(error).endswith("free some, or use another --store; what is stored is kept")
        with pytest.raises(StoreError, match="no space left"):
            blobs.put("large", LARGE)
        kept = blobs.list("")
        assert len(kept) > 1
        assert {blobs.get(info.name) for info in kept} == {LARGE[0] * 5}
    finally:
        server.stop()
        subprocess.run(["umount", str(folder)], check=True)


# -- settings --------------------------------------------------------------------------------------


def test_keys_from_the_credentials_file(
    minio: MinioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(minio, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match="no credentials: set AWS_ACCESS_KEY_ID and"):
        open_blobs(URL).list("")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        f"[mine]\naws_access_key_id = {ADMIN}\naws_secret_access_key = {PASSWORD}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "mine")
    open_blobs(URL).put("a", b"1")


def test_a_secure_connection_to_a_server_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    server = MinioServer(tmp_path / "minio", is_secure=True)
    try:
        server.start()
        server.make_bucket(BUCKET)
        use(server, monkeypatch)
        with pytest.raises(StoreError, match="no secure connection to https://") as error:
            open_blobs(URL).list("")
        assert "set AWS_CA_BUNDLE" in line_of(error)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(server.certificate))
        blobs = open_blobs(URL)
        for data in (b"", b"small", LARGE, iter(LARGE)):
            blobs.put("a", data)
        assert blobs.put("a", b"other", if_absent=True) is False
        assert blobs.get("a") == b"".join(LARGE)
        with blobs.stream("a") as file:
            assert file.read(1_000_000) == LARGE[0]
        assert [info.size for info in blobs.list("")] == [40_000_000]
    finally:
        server.stop()


def test_a_parents_connections_are_not_used_by_its_child(s3_url: str) -> None:
    blobs = open_blobs(s3_url)
    blobs.put("parent", b"1")
    pids = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for i in range(20):
                    blobs.put(f"{number}/{i}", b"%d" % number)
                    assert blobs.get(f"{number}/{i}") == b"%d" % number
                os._exit(0)
            except BaseException:
                os._exit(1)
        pids.append(pid)
    for _ in range(20):
        assert blobs.get("parent") == b"1"
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert len(blobs.list("")) == 81
