"""A checkpoint is stored once; any damage is detected, and it is never loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hippo.protocol.records import Manifest
from hippo.store import BlobInfo, CorruptCheckpoint, DirectoryBlobs, NewerFormat, PlanStore
from tests.unit.store.builders import KEY, OTHER


def write(
    store: PlanStore, key: str = KEY, content: bytes = b"weights", step: int = 60
) -> tuple[Manifest, bool]:
    return store.write_checkpoint(
        key=key,
        step=step,
        chunks=[content[:3], memoryview(content[3:])],
        state_digest=f"digest of {content!r}",
        fingerprint={"torch": "2"},
        chain="c1",
    )


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_is_written_is_read(store: PlanStore) -> None:
    manifest, existed = write(store)
    assert not existed
    assert store.read_manifest(KEY) == manifest
    assert store.read_checkpoint(manifest) == b"weights"
    assert (manifest.size, manifest.step, manifest.fingerprint) == (7, 60, {"torch": "2"})


def test_the_size_counts_bytes_not_items(store: PlanStore) -> None:
    matrix: Any = memoryview(bytes(range(48))).cast("d", (2, 3))
    manifest, _ = store.write_checkpoint(
        key=KEY, step=1, chunks=[matrix], state_digest="d", fingerprint={}, chain="c"
    )
    assert manifest.size == 48
    assert store.read_checkpoint(manifest) == bytes(range(48))


@pytest.mark.parametrize("content", [b"weights", b"others"])
def test_the_first_writer_wins(store: PlanStore, folder: Path, content: bytes) -> None:
    first, _ = write(store)
    second, existed = write(store, content=content)
    assert existed
    assert second == first
    assert store.read_checkpoint(second) == b"weights"
    assert only(folder / "data" / KEY).name == first.sha256, "what lost is removed"


class LateRival(DirectoryBlobs):
    """Lets another writer finish the same checkpoint just before this one's manifest."""

    rival: Callable[[], object] | None = None

    def put(self, name, chunks, *, if_absent=False):  # type: ignore[no-untyped-def]
        if "/manifests/" in name and self.rival is not None:
            rival, self.rival = self.rival, None
            rival()
        return super().put(name, chunks, if_absent=if_absent)


@pytest.mark.parametrize("content", [b"weights", b"others"])
def test_the_slower_of_two_at_once_gets_the_winners_manifest(
    store: PlanStore, folder: Path, content: bytes
) -> None:
    blobs = LateRival(folder.parent)
    won: list[Manifest] = []
    blobs.rival = lambda: won.append(write(store)[0])
    manifest, existed = write(PlanStore(blobs, "plan"), content=content)
    assert existed
    assert won == [manifest]
    assert only(folder / "data" / KEY).name == manifest.sha256
    assert store.read_checkpoint(manifest) == b"weights"


def test_delete_removes_manifest_and_data_also_without_manifest(
    store: PlanStore, folder: Path
) -> None:
    write(store)
    kept, _ = write(store, OTHER)
    (folder / "data" / KEY / ("0" * 64)).write_bytes(b"of a killed writer")
    for _ in range(2):
        store.delete_checkpoint(KEY)
    assert [path.name for path in (folder / "data").iterdir()] == [OTHER]
    with pytest.raises(CorruptCheckpoint, match=f"checkpoint {KEY}: its manifest is missing"):
        store.read_manifest(KEY)
    assert store.read_checkpoint(kept) == b"weights"


def flip_a_byte(folder: Path) -> None:
    path = only(folder / "data" / KEY)
    path.write_bytes(b"weighTs")


def truncate_data(folder: Path) -> None:
    path = only(folder / "data" / KEY)
    path.write_bytes(path.read_bytes()[:-1])


def remove_data(folder: Path) -> None:
    shutil.rmtree(folder / "data" / KEY)


def swap_data(folder: Path) -> None:
    ours, theirs = only(folder / "data" / KEY), only(folder / "data" / OTHER)
    ours_data = ours.read_bytes()
    ours.write_bytes(theirs.read_bytes())
    theirs.write_bytes(ours_data)


def remove_manifest(folder: Path) -> None:
    (folder / "manifests" / f"{KEY}.json").unlink()


def truncate_manifest(folder: Path) -> None:
    path = folder / "manifests" / f"{KEY}.json"
    path.write_bytes(path.read_bytes()[:50])


def empty_manifest(folder: Path) -> None:
    (folder / "manifests" / f"{KEY}.json").write_bytes(b"")


def alter_manifest(folder: Path) -> None:
    path = folder / "manifests" / f"{KEY}.json"
    path.write_text(path.read_text().replace('"step":60', '"step":61'))


def copy_foreign_manifest(folder: Path) -> None:
    shutil.copy(folder / "manifests" / f"{OTHER}.json", folder / "manifests" / f"{KEY}.json")


DAMAGE = [
    (flip_a_byte, "its data was altered"),
    (truncate_data, "its data has 6 bytes instead of 7"),
    (remove_data, "its data is missing"),
    (swap_data, "its data was altered"),
    (remove_manifest, "its manifest is missing"),
    (truncate_manifest, "cannot be read: it is truncated or was altered"),
    (empty_manifest, "cannot be read: it is truncated or was altered"),
    (alter_manifest, "cannot be read: it is truncated or was altered"),
    (copy_foreign_manifest, f"its manifest is that of {OTHER}"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_damage_is_named_and_repaired_by_training_again(
    store: PlanStore, folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    write(store)
    write(store, OTHER, b"elsewhe")
    damage(folder)
    with pytest.raises(CorruptCheckpoint) as error:
        store.read_checkpoint(store.read_manifest(KEY))
    assert f"checkpoint {KEY}" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)

    manifest, existed = write(store, content=b"again")
    assert not existed
    assert store.read_checkpoint(store.read_manifest(KEY)) == b"again"
    assert store.read_manifest(KEY) == manifest


def test_every_single_flipped_bit_of_a_manifest_is_noticed(store: PlanStore, folder: Path) -> None:
    write(store)
    path = folder / "manifests" / f"{KEY}.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises((CorruptCheckpoint, NewerFormat)):
            store.read_manifest(KEY)


def test_a_manifest_of_a_newer_hippo_is_left_alone(store: PlanStore, folder: Path) -> None:
    path = folder / "manifests" / f"{KEY}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"formatVersion": 2, "key": KEY, "shape": "new"}))
    message = (
        r"was written by a newer Hippo \(format 2, this one reads up to 1\): upgrade, or use"
        " another --store"
    )
    for call in (lambda: store.read_manifest(KEY), lambda: write(store), store.load):
        with pytest.raises(NewerFormat, match=message):
            call()
    assert json.loads(path.read_text())["formatVersion"] == 2


def test_unreadable_manifests_are_listed_and_skipped(store: PlanStore, folder: Path) -> None:
    for damage, message in DAMAGE:
        store.delete_checkpoint(KEY)
        write(store)
        other, _ = write(store, OTHER, b"elsewhere")
        if damage in (flip_a_byte, swap_data, remove_manifest):
            continue  # only seen when it is read
        damage(folder)
        records = store.load()
        assert records.manifests == {OTHER: other}
        assert len(records.problems) == 1
        assert message in records.problems[0]
        assert records.orphans == frozenset()


def test_data_without_a_manifest_is_an_orphan(store: PlanStore, folder: Path) -> None:
    write(store)
    write(store, OTHER)
    remove_manifest(folder)
    records = store.load()
    assert records.orphans == {KEY}
    assert list(records.manifests) == [OTHER]
    assert records.problems == ()
    store.delete_checkpoint(KEY)
    assert store.load().orphans == frozenset()
    assert store.blobs.list("plan/data/") == [BlobInfo(f"plan/data/{OTHER}/{_sha(folder)}", 7)]


def _sha(folder: Path) -> str:
    return only(folder / "data" / OTHER).name
