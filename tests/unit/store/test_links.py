"""A writer to a store's folder cannot lead others out of it by a link, at any time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hippo.gc import collect, list_store
from hippo.store import DirectoryBlobs, LinkInside, MissingBlob, StoreError, list_plans
from tests.unit.gc.stored import STEPS, StoredPlan

NAME = "team/0123456789abcdef/data/key/blob"
PARTS = NAME.split("/")
LEVELS = range(1, len(PARTS) + 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that could stand in for any of the store's, with a file at each depth."""
    folder = tmp_path / "outside"
    for level in LEVELS:
        file = folder.joinpath(*PARTS[level:] or ["blob"])
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_dir():
            file.write_text("precious")
    return folder


def link(root: Path, level: int, target: Path) -> Path:
    place = root.joinpath(*PARTS[:level])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target / "blob" if level == len(PARTS) else target)
    return place


def snapshot(folder: Path) -> dict[str, str]:
    return {str(p): p.read_text() if p.is_file() else "" for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("level", LEVELS)
def test_no_link_is_followed(root: Path, outside: Path, level: int) -> None:
    place, before = link(root, level, outside), snapshot(outside)
    blobs = DirectoryBlobs(root)
    calls: list[Callable[[], object]] = [
        lambda: blobs.get(NAME),
        lambda: blobs.stream(NAME).__enter__(),
        lambda: blobs.list(""),
        lambda: blobs.list(NAME.rpartition("/")[0] + "/"),
        lambda: blobs.list(NAME),
    ]
    if level < len(PARTS):
        calls += [
            lambda: blobs.put(NAME, b"mine"),
            lambda: blobs.put(NAME, b"mine", if_absent=True),
            lambda: blobs.put(f"{NAME}-new", b"mine"),
            lambda: blobs.delete(NAME),
        ]
    for call in calls:
        with pytest.raises(LinkInside, match="is a symbolic link, which is not") as error:
            call()
        assert str(place) in str(error.value)
        assert "\n" not in str(error.value)
    assert snapshot(outside) == before
    assert place.is_symlink()


def test_a_link_in_a_blobs_place_is_written_over_or_removed_itself(
    root: Path, outside: Path
) -> None:
    place, before = link(root, len(PARTS), outside), snapshot(outside)
    blobs = DirectoryBlobs(root)
    assert blobs.put(NAME, b"mine", if_absent=True) is False, "something is there"
    blobs.put(NAME, b"mine")
    assert blobs.get(NAME) == b"mine"
    place.unlink()
    link(root, len(PARTS), outside)
    blobs.delete(NAME)
    assert not place.is_symlink()
    assert snapshot(outside) == before


def test_the_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    root.symlink_to(tmp_path / "disk")
    blobs = DirectoryBlobs(root)
    blobs.put(NAME, b"1")
    assert blobs.get(NAME) == b"1"
    assert [info.name for info in blobs.list("")] == [NAME]
    blobs.delete(NAME)
    assert os.listdir(tmp_path / "disk") == [".tmp"]


def test_the_folder_of_temporary_files_is_no_link(root: Path, outside: Path) -> None:
    root.mkdir()
    (root / ".tmp").symlink_to(outside)
    before = snapshot(outside)
    blobs = DirectoryBlobs(root)
    with pytest.raises(LinkInside, match=r"store/\.tmp is a symbolic link"):
        blobs.put("a", b"1")
    assert blobs.clean(older_than_seconds=0) == 0
    assert snapshot(outside) == before


def test_left_overs_that_are_links_or_pipes_are_not_taken_for_writes(
    root: Path, outside: Path
) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("a", b"1")
    (root / ".tmp" / "one").symlink_to(outside / "blob")
    os.mkfifo(root / ".tmp" / "two")
    (root / ".tmp" / "three").mkdir()
    before = snapshot(outside)
    assert blobs.clean(older_than_seconds=0) == 0
    assert snapshot(outside) == before


def make_socket(place: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(place)


@pytest.mark.parametrize("make", [os.mkfifo, make_socket])
def test_who_reads_waits_for_no_pipe(
    root: Path, make: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("plan/a", b"1")
    monkeypatch.chdir(root / "plan")  # names of sockets are short
    make("odd")
    with pytest.raises(StoreError, match="plan/odd: it is no regular file: remove it") as error:
        blobs.get("plan/odd")
    assert not isinstance(error.value, MissingBlob)
    assert [info.name for info in blobs.list("")] == ["plan/a"]
    assert blobs.put("plan/odd", b"2", if_absent=True) is False
    blobs.put("plan/odd", b"2")
    assert blobs.get("plan/odd") == b"2"


def test_a_hard_link_is_taken_away_and_what_it_names_stays(root: Path, outside: Path) -> None:
    blobs = DirectoryBlobs(root)
    blobs.put("plan/a", b"1")
    os.link(outside / "blob", root / "plan" / "b")
    blobs.put("plan/b", b"2")
    assert (outside / "blob").read_text() == "precious"
    (root / "plan" / "b").unlink()
    os.link(outside / "blob", root / "plan" / "b")
    blobs.delete("plan/b")
    assert (outside / "blob").read_text() == "precious"


_SWAP = """
import contextlib, os, sys
folder, spare, outside = sys.argv[1:]
while True:
    with contextlib.suppress(OSError):
        os.rename(folder, spare)
        os.symlink(outside, folder)
    with contextlib.suppress(OSError):
        os.unlink(folder)
        os.rename(spare, folder)
"""


@pytest.mark.slow
def test_no_moment_is_the_wrong_one(root: Path, outside: Path) -> None:
    """A folder is sometimes a link: operations affect the folder or nothing."""
    blobs = DirectoryBlobs(root)
    blobs.put(NAME, b"mine")
    before = snapshot(outside)
    folder = root.joinpath(*PARTS[:3])
    swapping = subprocess.Popen(
        [sys.executable, "-c", _SWAP, str(folder), str(folder) + ".spare", str(outside)]
    )
    refused = done = 0
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            for call in (
                lambda: blobs.get(NAME),
                lambda: blobs.list("team/"),
                lambda: blobs.put(NAME, b"mine"),
                lambda: blobs.delete(NAME),
            ):
                try:
                    found = call()
                    assert found != b"precious"
                    done += 1
                except StoreError:
                    refused += 1
    finally:
        swapping.kill()
        swapping.wait()
    assert snapshot(outside) == before
    assert refused
    assert done


def test_folders_in_one_another_do_not_use_up_descriptors(root: Path) -> None:
    blobs = DirectoryBlobs(root)
    deep = "/".join("x" * 500)
    blobs.put(deep, b"1")
    blobs.put("a", b"2")
    opened: list[int] = []
    with contextlib.ExitStack() as stack:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        opened = [len(info.name) for info in blobs.list("")]
        assert blobs.get(deep) == b"1"
    assert opened == [1, len(deep)]


def test_one_namespaces_links_hide_nothing_of_the_others(root: Path, outside: Path) -> None:
    blobs = DirectoryBlobs(root)
    sound, linked = StoredPlan(blobs, "a"), StoredPlan(blobs, "b")
    key = sound.add_checkpoint({"lr": 0.1}, STEPS)
    sound.add_study("s", {"lr": 0.1}, best=key)
    linked.add_study("s", {"lr": 0.1}, best=None)
    data = root / linked.store.plan / "data"
    data.symlink_to(outside)
    (root / "c").symlink_to(outside)
    (root / "d").mkdir()
    (root / "d" / ("0" * 16)).symlink_to(outside)
    before = snapshot(outside)
    links: list[str] = []
    paths = [sound.store.plan, linked.store.plan, f"d/{'0' * 16}"]
    assert list(list_plans(blobs, links=links)) == paths
    assert links == ["c"]
    listed = {listing.namespace: listing for listing in list_store(blobs, now=time.time())}
    assert listed["a"].checkpoints == 1
    assert listed["a"].problems == ()
    for namespace in ("b", "d"):
        (problem,) = listed[namespace].problems
        assert "is a symbolic link, which is not followed" in problem
    found = collect(blobs, now=time.time())
    assert found.links == ("c",)
    assert [swept.plan for swept in found.failed] == paths[1:]
    assert sound.stored() == {key}
    assert snapshot(outside) == before
    with pytest.raises(LinkInside):
        list_plans(blobs, "c")
