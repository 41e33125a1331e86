"""The cache returns what was stored or nothing, stays within its bound, and never fails."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hippo.protocol.records import Manifest
from hippo.store import CorruptCheckpoint, DirectoryBlobs, PlanStore
from hippo.store.cache import CheckpointCache, find_cache
from tests.unit.store import processes
from tests.unit.store.builders import KEY, OTHER
from tests.unit.store.wrappers import Counting

_PUT = """
import os, resource, sys
from hippo.store import cache
exec(sys.argv[2])
kept = cache.CheckpointCache(sys.argv[1], 1 << 30, tell=print)
for name in ("a" * 64, "b" * 64):
    kept.put(name, [b"x" * (4 << 20)])
if os.access(sys.argv[1], os.R_OK):
    print(sorted(os.listdir(sys.argv[1])))
"""
_CHURN = """
import hashlib, os, sys
from hippo.store.cache import CheckpointCache
folder, start = sys.argv[1], int(sys.argv[2])
cache = CheckpointCache(folder, 10_000, tell=print)
most = 0
for number in range(start, start + 400):
    data = number.to_bytes(4, "big") * 250
    cache.put(hashlib.sha256(data).hexdigest(), [data])
    for other in range(max(0, number - 5), number + 5):
        data = other.to_bytes(4, "big") * 250
        assert cache.get(hashlib.sha256(data).hexdigest(), 1000) in (None, data)
    found = 0
    for name in os.listdir(folder):
        try:
            found += os.stat(f"{folder}/{name}").st_size
        except FileNotFoundError:
            pass
    most = max(most, found)
print("over" if most > 12_000 else "within")  # two may just be making room
"""


class Kept:
    """A cache and its messages."""

    def __init__(self, folder: Path, limit: int = 1 << 20) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.cache = CheckpointCache(str(folder), limit, tell=self.told.append)

    def put(self, data: bytes, *, age: float = 0.0) -> str:
        """``age`` is in seconds before now."""
        name = hashlib.sha256(data).hexdigest()
        self.cache.put(name, [data[:3], memoryview(data)[3:]])
        if age:
            os.utime(self.folder / name, (0, time.time() - age))
        return name

    def has(self, data: bytes) -> bool:
        return (self.folder / hashlib.sha256(data).hexdigest()).exists()

    def files(self) -> list[str]:
        return os.listdir(self.folder) if self.folder.exists() else []


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "deep" / "cache")


def test_what_was_put_is_there_and_nothing_else(kept: Kept) -> None:
    assert kept.cache.get("0" * 64, 7) is None
    assert not kept.folder.exists(), "a look makes no folder"
    name = kept.put(b"weights")
    assert kept.cache.get(name, 7) == b"weights"
    assert kept.files() == [name]
    kept.cache.drop(name)
    kept.cache.drop(name)
    assert kept.cache.get(name, 7) is None
    assert kept.told == []


def test_items_of_any_size_are_bytes(kept: Kept) -> None:
    matrix: Any = memoryview(bytes(range(48))).cast("d", (2, 3))
    name = hashlib.sha256(bytes(range(48))).hexdigest()
    kept.cache.put(name, [matrix, memoryview(b"")])
    assert kept.cache.get(name, 48) == bytes(range(48))


@pytest.mark.parametrize("content", [b"weighTs", b"weight", b"weights!", b""])
def test_damage_is_a_miss_and_is_removed(kept: Kept, content: bytes) -> None:
    name = kept.put(b"weights")
    (kept.folder / name).write_bytes(content)
    assert kept.cache.get(name, 7) is None
    assert kept.files() == []
    kept.put(b"weights")
    assert kept.cache.get(name, 7) == b"weights"
    assert kept.told == []


def test_a_name_is_a_hash_and_leads_nowhere_else(kept: Kept, tmp_path: Path) -> None:
    kept.put(b"weights")
    for name in ("../../secret", "/etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "\n"):
        with pytest.raises(ValueError, match="not a SHA-256"):
            kept.cache.get(name, 1)
        with pytest.raises(ValueError, match="not a SHA-256"):
            kept.cache.put(name, [b"x"])
        kept.cache.drop(name)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (kept.folder / hashlib.sha256(b"secret").hexdigest()).symlink_to(secret)
    assert kept.cache.get(hashlib.sha256(b"secret").hexdigest(), 6) is None
    assert secret.read_bytes() == b"secret"


def test_who_was_not_read_for_longest_leaves_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit=30)
    oldest, middle = b"oldest....", b"middle...."
    kept.put(oldest, age=30)
    kept.put(middle, age=20)
    kept.put(b"youngest..", age=10)
    assert kept.cache.get(hashlib.sha256(oldest).hexdigest(), 10) == oldest
    kept.put(b"newcomer..")
    assert kept.has(oldest)
    assert not kept.has(middle)
    assert len(kept.files()) == 3
    kept.put(b"large newcomer of 27 bytes.")
    assert len(kept.files()) == 1
    kept.put(b"more than there may ever be in it")
    assert len(kept.files()) == 1, "nobody leaves for what finds no room anyway"


def test_what_another_writer_is_about_to_write_counts(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit=30)
    kept.put(b"0123456789")
    unfinished = tmp_path / f".new-{'0' * 24}"
    unfinished.write_bytes(b"x" * 20)
    kept.put(b"abcdefghij")
    assert not kept.has(b"0123456789")
    assert kept.has(b"abcdefghij")
    kept.put(b"more than ten")
    assert not kept.has(b"more than ten")
    os.utime(unfinished, (0, time.time() - 3600))  # its writer was killed
    kept.put(b"more than ten")
    assert kept.has(b"more than ten")
    assert not unfinished.exists()


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    kept = Kept(tmp_path, limit=10)
    kept.put(b"0123456789")
    kept.put(b"abcdefghij")
    kept.cache.clear()
    assert kept.files() == ["notes.txt"]
    assert kept.told == []


def test_it_is_cleared_and_goes_on(kept: Kept) -> None:
    kept.put(b"weights")
    kept.cache.clear()
    assert not kept.folder.exists()
    kept.cache.clear()
    name = kept.put(b"weights")
    assert kept.cache.get(name, 7) == b"weights"


@pytest.mark.slow
def test_two_processes_keep_the_bound_and_read_only_what_was_put(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with (
        processes.start(_CHURN, str(tmp_path / "cache"), "0") as one,
        processes.start(_CHURN, str(tmp_path / "cache"), "200") as other,
    ):
        for process in (one, other):
            assert process.communicate(timeout=60)[0] == "within\n"
    files = list((tmp_path / "cache").iterdir())
    assert not [file for file in files if file.name.startswith(".")]
    assert 8_000 < sum(file.stat().st_size for file in files) <= 10_000


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    kept = Kept(tmp_path / "file" / "cache")
    for data in (b"weights", b"others"):
        name = kept.put(data)
        assert kept.cache.get(name, len(data)) is None
    (line,) = kept.told
    assert line == f"checkpoints are not kept in {kept.folder}: Not a directory; going on without"
    kept.cache.clear()
    assert (tmp_path / "file").read_text() == "precious"


def put_elsewhere(folder: Path, first: str, wrapper: list[str] | None = None) -> list[str]:
    """Returns the messages of another process that caches two checkpoints, and the final files."""
    folder.mkdir(exist_ok=True)
    return processes.run(_PUT, str(folder), first, wrapper=wrapper or []).splitlines()


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path, namespace: list[str]) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = [*namespace, "sh", "-c", f'mount -t tmpfs -o size=1m none {folder} && exec "$@"', "sh"]
    assert put_elsewhere(folder, "", mount) == ["[]"], "room is looked for first"
    line = f"checkpoints are not kept in {folder}: No space left on device; going on without"
    filled_meanwhile = "cache._SPARED = -1e-9"
    assert put_elsewhere(folder, filled_meanwhile, mount) == [line, "[]"]


@pytest.mark.slow
def test_some_of_the_disk_is_left_to_others(tmp_path: Path, namespace: list[str]) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = [*namespace, "sh", "-c", f'mount -t tmpfs -o size=8m none {folder} && exec "$@"', "sh"]
    assert put_elsewhere(folder, "", mount) == [str(["b" * 64])], "the older one has left"


@pytest.mark.slow
def test_a_read_only_file_system(tmp_path: Path, namespace: list[str]) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = [*namespace, "sh", "-c", f'mount -t tmpfs -o ro none {folder} && exec "$@"', "sh"]
    line = f"checkpoints are not kept in {folder}: Read-only file system; going on without"
    assert put_elsewhere(folder, "", mount) == [line, "[]"]


@pytest.mark.slow
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o555)
    line = f"checkpoints are not kept in {folder}: Permission denied; going on without"
    drop = "os.geteuid() == 0 and os.setuid(65534)"
    assert put_elsewhere(folder, drop)[0] == line
    assert os.listdir(folder) == []


@pytest.mark.slow
def test_a_limit_of_file_sizes(tmp_path: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    line, files = put_elsewhere(tmp_path / "cache", limit)
    assert line.endswith("File too large; going on without")
    assert files == "[]"


@pytest.mark.parametrize(
    ("environment", "exists", "told"),
    [
        ({}, False, 0),
        ({"HIPPO_CACHE_DIR": "/c"}, True, 0),
        ({"HIPPO_CACHE_DIR": "/c", "HIPPO_CACHE_BYTES": "5"}, True, 0),
        ({"HIPPO_CACHE_DIR": "/c", "HIPPO_CACHE_BYTES": "0"}, False, 0),
        ({"HIPPO_CACHE_DIR": "/c", "HIPPO_CACHE_BYTES": "10 GB"}, False, 1),
        ({"HIPPO_CACHE_DIR": "/c", "HIPPO_CACHE_BYTES": "-1"}, False, 1),
    ],
)
def test_the_environment_asks_for_it(environment: dict[str, str], exists: bool, told: int) -> None:
    lines: list[str] = []
    found = find_cache(tell=lines.append, environment=environment)
    assert (found is not None, len(lines)) == (exists, told)


# -- checkpoints behind it -------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path) -> Counting:
    return Counting(DirectoryBlobs(tmp_path / "store"))


def on_a_node(asked: Counting, folder: Path) -> PlanStore:
    """A plan, as the workers of one node see it."""
    return PlanStore(asked, "plan", cache=Kept(folder).cache)


def write(store: PlanStore, key: str = KEY) -> Manifest:
    manifest, existed = store.write_checkpoint(
        key=key, step=1, chunks=[b"weights"], state_digest="d", fingerprint={}, chain="c"
    )
    assert not existed
    return manifest


def test_who_goes_on_where_it_was_written_asks_for_the_manifest_only(
    asked: Counting, tmp_path: Path
) -> None:
    write(on_a_node(asked, tmp_path / "one"))
    asked.calls.clear()
    next_one = on_a_node(asked, tmp_path / "one")
    assert next_one.read_checkpoint(next_one.read_manifest(KEY)) == b"weights"
    assert asked.calls == ["get"]
    elsewhere = on_a_node(asked, tmp_path / "other")
    for calls in (["get"] * 3, ["get"] * 4):
        assert elsewhere.read_checkpoint(elsewhere.read_manifest(KEY)) == b"weights"
        assert asked.calls == calls, "downloaded once"


def test_a_damaged_entry_costs_a_download(asked: Counting, tmp_path: Path) -> None:
    store = on_a_node(asked, tmp_path / "one")
    manifest = write(store)
    (tmp_path / "one" / manifest.sha256).write_bytes(b"weighTs")
    asked.calls.clear()
    for _ in range(2):
        assert store.read_checkpoint(manifest) == b"weights"
    assert asked.calls == ["get"]


def test_damage_in_the_store_is_not_kept(asked: Counting, tmp_path: Path) -> None:
    manifest = write(PlanStore(asked, "plan"))
    (tmp_path / "store" / "plan" / "data" / KEY / manifest.sha256).write_bytes(b"weighTs")
    with pytest.raises(CorruptCheckpoint):
        on_a_node(asked, tmp_path / "one").read_checkpoint(manifest)
    assert not (tmp_path / "one").exists()


def test_a_deleted_checkpoint_stays_deleted(asked: Counting, tmp_path: Path) -> None:
    write(on_a_node(asked, tmp_path / "one"))
    write(on_a_node(asked, tmp_path / "one"), OTHER)
    PlanStore(asked, "plan").delete_checkpoint(KEY)
    assert os.listdir(tmp_path / "one"), "deleted by somebody who does not know this cache"
    with pytest.raises(CorruptCheckpoint, match="its manifest is missing"):
        on_a_node(asked, tmp_path / "one").read_manifest(KEY)
    on_a_node(asked, tmp_path / "one").delete_checkpoint(OTHER)
    assert os.listdir(tmp_path / "one") == []


def test_odd_files_are_passed_over_and_starve_nobody(tmp_path: Path) -> None:
    """Any pod of the namespace may put such files there."""
    kept, outside = Kept(tmp_path / "c", limit=3000), tmp_path / "outside"
    outside.write_bytes(b"x" * 4000)
    kept.put(b"a" * 1000, age=50)
    sizes = {".new-evil": 1 << 40, f".new-{'0' * 24}": 1 << 40, "e" * 64: 1 << 40}
    for name, size in sizes.items():
        (kept.folder / name).touch()
        os.truncate(kept.folder / name, size)
        os.utime(kept.folder / name, (0, time.time() + 1e6))
    (kept.folder / ("1" * 64)).symlink_to(outside)
    os.mkfifo(kept.folder / ("2" * 64))
    (kept.folder / ("3" * 64)).mkdir()
    os.mkfifo(kept.folder / f".new-{'4' * 24}")
    (kept.folder / "5.large").write_bytes(b"x" * 5000)
    kept.put(b"b" * 1000)
    kept.put(b"c" * 1000)
    assert [kept.has(data * 1000) for data in (b"a", b"b", b"c")] == [True] * 3
    for name in ("1" * 64, "2" * 64, "3" * 64, "e" * 64):
        assert kept.cache.get(name, 4000) is None
    assert outside.read_bytes() == b"x" * 4000
    assert kept.told == []
    kept.put(b"d" * 1000)
    assert not kept.has(b"a" * 1000), "the bound holds among what is its own"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc", path)])
def test_what_is_in_an_entrys_place_costs_only_that_entry(kept: Kept, make: Any) -> None:
    other = kept.put(b"other")
    name = hashlib.sha256(b"weights").hexdigest()
    make(kept.folder / name)
    kept.put(b"weights")
    found = kept.cache.get(name, 7)
    assert found in (None, b"weights")
    assert kept.cache.get(other, 5) == b"other"
    assert kept.told == []


def test_the_time_of_a_link_is_not_changed_where_it_leads(kept: Kept, tmp_path: Path) -> None:
    kept.put(b"other")
    victim = tmp_path / "victim"
    victim.write_bytes(b"weights")
    os.utime(victim, (1, 1))
    (kept.folder / hashlib.sha256(b"weights").hexdigest()).symlink_to(victim)
    kept.put(b"weights")
    assert victim.stat().st_mtime == 1


def test_a_file_from_the_future_leaves_like_any_other(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit=20)
    kept.put(b"0123456789", age=-1e6)
    for data in (b"abcdefghij", b"klmnopqrst"):
        time.sleep(0.01)
        kept.put(data)
    assert not kept.has(b"0123456789")
