"""A directory keeps the contract, removes leftovers of dead writers, and explains failures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hippo.store import DirectoryBlobs, LinkInside, MissingBlob, StoreError, open_blobs
from tests.unit.store import processes
from tests.unit.store.blobs_contract import STALLED_WRITER, BlobsContract

_PUT_AND_EXPLAIN = """
import os, resource, sys
from hippo.store import StoreError, open_blobs
blobs = open_blobs(sys.argv[1])
exec(sys.argv[2])
for if_absent in (False, True):
    try:
        blobs.put("plan/a", (b"x" * 65536 for _ in range(64)), if_absent=if_absent)
    except StoreError as error:
        print(error)
"""


class TestDirectoryBlobs(BlobsContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def left_over(root: Path) -> list[str]:
    return os.listdir(root / ".tmp")


@pytest.mark.slow
def test_what_a_killed_writer_left_is_swept_and_a_live_one_is_spared(root: Path) -> None:
    with (
        processes.start(STALLED_WRITER, str(root), "dead") as dead,
        processes.start(STALLED_WRITER, str(root), "live") as live,
    ):
        processes.expect(dead, "writing")
        processes.expect(live, "writing")
        dead.kill()
        dead.wait()
        assert len(left_over(root)) == 2
        DirectoryBlobs(root).put("other", b"")
        assert len(left_over(root)) == 1
        assert live.stdin is not None
        live.stdin.write("go on\n")
        live.stdin.flush()
        processes.expect(live, "written")
    assert left_over(root) == []
    assert DirectoryBlobs(root).get("live") == b"x" * 100_000 + b"y" * 100_000
    with pytest.raises(MissingBlob):
        DirectoryBlobs(root).get("dead")


def test_sweeping_never_takes_the_file_of_a_writer_that_just_began(root: Path) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("a", b"")
    end = time.monotonic() + 0.5
    sweeping = threading.Thread(target=sweep_until, args=(root, end))
    sweeping.start()
    written = 0
    while time.monotonic() < end:
        assert blobs.put(f"b/{written}", b"x", if_absent=True)
        written += 1
    sweeping.join()
    assert written == len(blobs.list("b/")) > 0
    assert left_over(root) == []


def sweep_until(root: Path, end: float) -> None:
    while time.monotonic() < end:
        DirectoryBlobs(root)._sweep()


_COME_AND_GO = """
import contextlib, os, sys
while True:
    for change in (os.mkdir, os.rmdir):
        with contextlib.suppress(OSError):
            change(sys.argv[1])
"""


def test_a_folder_that_goes_while_it_is_made_is_no_conflict(root: Path) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("kept", b"")
    folder, made = root / "b", 0
    other = subprocess.Popen([sys.executable, "-c", _COME_AND_GO, str(folder)])
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            os.close(blobs._enter("b"))
            made += 1
    finally:
        other.kill()
        other.wait()
    assert made > 0


def test_threads_share_a_store_whose_folders_come_and_go(root: Path) -> None:
    blobs = DirectoryBlobs(root)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(60):
                assert blobs.put(f"a/b/{number}", b"%d" % i, if_absent=True)
                assert blobs.get(f"a/b/{number}") == b"%d" % i
                blobs.delete(f"a/b/{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(root) == [".tmp"], "emptied folders are removed"


def test_each_blob_costs_one_flush_of_a_file_and_one_of_a_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("a/b/first", b"")
    flushed: list[str] = []
    fsync = os.fsync

    def count(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    blobs.put("a/b/second", b"x", if_absent=True)
    assert len(flushed) == 2
    assert flushed[0].startswith(str(root / ".tmp"))
    assert flushed[1] == str(root / "a/b")
    flushed.clear()
    blobs.put("a/c/third", b"x")
    assert flushed[1:] == [str(root / "a"), str(root / "a/c")], "a new folder is made durable"


def test_foreign_files_are_no_blobs(root: Path) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("a", b"")
    (root / ".DS_Store").write_text("")
    (root / "my notes.txt").write_text("")
    (root / "folder.of mine").mkdir()
    os.mkfifo(root / "pipe")
    assert [info.name for info in blobs.list("")] == ["a"]


def test_reading_makes_no_directory(root: Path) -> None:
    DirectoryBlobs(root).list("")
    assert not root.exists()


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blobs = DirectoryBlobs("store")
    monkeypatch.chdir("/")
    blobs.put("a", b"here")
    assert (tmp_path / "store/a").read_bytes() == b"here"


@pytest.mark.parametrize("below", ["", "/below/it"])
def test_a_store_path_that_is_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("precious")
    blobs = DirectoryBlobs(f"{tmp_path}/file{below}")
    for call in (
        lambda: blobs.put("a", b""),
        lambda: blobs.put("a", b"", if_absent=True),
        lambda: blobs.get("a"),
        lambda: blobs.list(""),
        lambda: blobs.list("a/b"),
    ):
        with pytest.raises(StoreError, match="file is not a directory: use another --store") as e:
            call()
        assert not isinstance(e.value, MissingBlob)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_blob_is_not_a_folder_too(root: Path) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("a/b", b"1")
    for name in ("a", "a/b/c"):
        for if_absent in (False, True):
            with pytest.raises(StoreError, match="a file and a folder would share a name"):
                blobs.put(name, b"2", if_absent=if_absent)
    assert left_over(root) == []
    assert blobs.get("a/b") == b"1"


def explain(root: Path, first: str, wrapper: list[str] | None = None) -> Iterator[str]:
    root.mkdir(exist_ok=True)
    output = processes.run(_PUT_AND_EXPLAIN, str(root), first, wrapper=wrapper or [])
    lines = output.splitlines()
    assert len(lines) == 2, output
    for line in lines:
        assert line.startswith(f"cannot write {root}/plan/a: "), line
        yield line


@pytest.mark.slow
def test_a_full_disk(root: Path, namespace: list[str]) -> None:
    mount = f'mount -t tmpfs -o size=1m none {root} && exec "$@"'
    look = "import atexit; atexit.register(lambda: print(os.listdir(sys.argv[1] + '/.tmp')))"
    root.mkdir()
    output = processes.run(
        _PUT_AND_EXPLAIN, str(root), look, wrapper=[*namespace, "sh", "-c", mount, "sh"]
    )
    line = f"cannot write {root}/plan/a: no space left: free some, or use another --store; "
    assert output.splitlines() == [line + "what is stored is kept"] * 2 + ["[]"]


@pytest.mark.slow
def test_a_read_only_file_system(root: Path, namespace: list[str]) -> None:
    mount = f'mount -t tmpfs -o ro none {root} && exec "$@"'
    for line in explain(root, "", [*namespace, "sh", "-c", mount, "sh"]):
        assert line.endswith("the file system is read-only: use another --store")


@pytest.mark.slow
def test_a_file_size_limit(root: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    for line in explain(root, limit):
        assert "raise the limit (ulimit -f)" in line
    assert left_over(root) == []


@pytest.mark.slow
def test_permission_denied(root: Path) -> None:
    drop = "os.geteuid() == 0 and os.setuid(65534)"
    root.mkdir(mode=0o500)
    for line in explain(root, drop):
        assert line.endswith(
            "permission denied: give this user access to it, or use another --store"
        )


@pytest.mark.parametrize("url", ["{}", "file://{}", "file://localhost{}", "FILE://{}"])
def test_urls_of_directories(tmp_path: Path, url: str) -> None:
    open_blobs(url.format(tmp_path / "s")).put("a", b"1")
    assert (tmp_path / "s/a").read_bytes() == b"1"


def test_a_url_is_decoded_and_a_path_is_not(tmp_path: Path) -> None:
    open_blobs(f"file://{tmp_path}/my%20store").put("a", b"1")
    open_blobs(f"{tmp_path}/my%20store").put("a", b"2")
    assert (tmp_path / "my store/a").read_bytes() == b"1"
    assert (tmp_path / "my%20store/a").read_bytes() == b"2"


def test_a_path_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_blobs("~/s").put("a", b"1")
    assert (tmp_path / "s/a").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "--store is empty"),
        ("a\0b", "--store is empty"),
        ("s3://", "write s3://bucket/prefix"),
        ("s3://a_bucket", "write s3://bucket/prefix"),
        ("s3://bucket/my prefix", "a prefix is of letters"),
        ("gs://bucket", "not gs://"),
        ("file://host/path", "three slashes"),
        ("file://", "three slashes"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as error:
        open_blobs(url)
    assert "\n" not in str(error.value)


def test_a_store_that_is_a_link_to_nowhere_is_not_an_empty_one(tmp_path: Path) -> None:
    """The disk is not mounted: a new store in its place would train everything again."""
    (tmp_path / "store").symlink_to(tmp_path / "disk" / "store")
    blobs = DirectoryBlobs(tmp_path / "store")
    calls: list[Callable[[], object]] = [
        lambda: blobs.list(""),
        lambda: blobs.list("plan/studies/"),
        lambda: blobs.get("plan/a"),
        lambda: blobs.put("plan/a", b"1"),
        lambda: blobs.put("plan/a", b"1", if_absent=True),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="store is a link to what is not there") as error:
            call()
        assert not isinstance(error.value, MissingBlob)
    (tmp_path / "disk" / "store").mkdir(parents=True)
    assert blobs.list("") == []


def test_a_blob_that_is_a_link_is_not_absent(tmp_path: Path) -> None:
    """The store was moved to another disk: a new one would train everything again."""
    blobs = DirectoryBlobs(tmp_path)
    blobs.put("plan/a", b"1")
    (tmp_path / "plan" / "b").symlink_to(tmp_path / "elsewhere")
    for call in (lambda: blobs.list("plan/"), lambda: blobs.get("plan/b")):
        with pytest.raises(LinkInside, match="plan/b is a symbolic link, which is not followed"):
            call()
    (tmp_path / "plan" / "b").unlink()
    (tmp_path / "plan" / "b").write_bytes(b"2")
    assert blobs.get("plan/b") == b"2"
