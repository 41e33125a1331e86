"""Stores that are full, damaged, foreign, newer or cannot be written: told in one line, and nothing
that was computed is lost or wrongly used.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hippo.store.encoding import encode_manifest
from tests.integration.runs import Place
from tests.integration.test_run_crashes import find_covered
from tests.integration.test_run_exact import ALL, check_against_oracle

SPACE = {
    "lr": [0.1, {"piecewise": [[0, 0.1], [5, 0.01]]}, {"piecewise": [[0, 0.1], [8, 0.01]]}],
    "momentum": [0.9, 0.5],
}
UNIQUE = 2 * (12 + 7 + 4)


# -- no room ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(place: Place) -> Iterator[Path]:
    """Where the store goes: a file system of 1 MiB of its own."""
    folder = place.store_folder
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        assert os.environ.get("CI") != "true", mounted.stderr
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    place.clean_up()
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_stops_the_run_and_nothing_is_lost(place: Place, small_disk: Path) -> None:
    trainer = {"entrypoint": "walk:Walk", "config": {"ballast": 100_000}}
    study = place.study("study", SPACE, trainer=trainer, **ALL)
    for _ in range(2):  # trying again without making room does no harm
        done = place.call("run", study, "--workers", "2", status=1)
        assert done.stdout == ""
        (error,) = done.errors
        assert "no space left: free some, or use another --store" in error
        assert not place.processes()
    covered, known = find_covered(place), len(place.trained())
    assert covered
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    result = place.run(study)
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}
    assert not covered & {after for _, after in place.trained()[known:]}
    assert len(set(place.trained())) == UNIQUE
    check_against_oracle(place, result["trials"], with_states=False)


def test_a_store_that_cannot_be_written(place: Place) -> None:
    study = place.study("study", SPACE)
    (place.folder / "file").touch()
    for store, reason in [
        ("file", "Not a directory"),
        ("/proc/store", "No such file or directory"),
        ("s3://bucket/no prefix", "a prefix is of letters"),
        ("", "--store is empty"),
    ]:
        done = place.call("run", study, "--store", store, status=1)
        assert done.stdout == ""
        (error,) = done.errors
        assert reason in error
        assert len(done.stderr.splitlines()) == 1


# -- damage ----------------------------------------------------------------------------------------


DAMAGES = ("truncated", "altered", "gone", "manifest", "foreign")


def part_at_5(*rates: float) -> dict[str, Any]:
    """Five pairs of hyper-parameters with sequences that part at step 5."""
    lr = [{"piecewise": [[0, 0.1], [5, rate]]} for rate in rates]
    return {"lr": lr, "momentum": [0.1, 0.3, 0.5, 0.7, 0.9]}


def spoil(place: Place, key: str, damage: str) -> str:
    """Damage a checkpoint; returns what is to be told of it."""
    plan = place.plan()
    manifest = plan.read_manifest(key)
    data = place.store_folder / plan.plan / "data" / key / manifest.sha256
    record = place.store_folder / plan.plan / "manifests" / f"{key}.json"
    match damage:
        case "truncated":
            data.write_bytes(data.read_bytes()[:-7])
            return f"checkpoint {key}: its data has {manifest.size - 7} bytes"
        case "altered":
            content = bytearray(data.read_bytes())
            content[-1] ^= 1
            data.write_bytes(content)
            return f"checkpoint {key}: its data was altered"
        case "gone":
            data.unlink()
            return f"checkpoint {key}: its data is missing"
        case "manifest":
            record.write_bytes(record.read_bytes().replace(b'"step":5', b'"step":6'))
            return f"the manifest of checkpoint {key} cannot be read"
        case _:
            foreign = {**manifest.fingerprint, "python": "2.7"}
            changed = manifest.model_copy(update={"fingerprint": foreign})
            record.write_bytes(encode_manifest(changed))
            return f"checkpoint {key} was made elsewhere"


def test_damaged_checkpoints_are_reported_and_trained_again(place: Place) -> None:
    place.run(place.study("first", part_at_5(0.01, 0.02), **ALL))
    known = len(place.trained())
    keys = [key for key, manifest in place.manifests().items() if manifest.step == 5]
    told = [spoil(place, key, damage) for key, damage in zip(keys, DAMAGES, strict=True)]
    second = place.study("second", part_at_5(0.03, 0.04), **ALL)
    done = place.call("run", second, "-o", "json", "--workers", "2")
    for line in told:
        assert sum(line in said for said in done.stderr.splitlines()) == 1, (line, done.stderr)
    assert done.stderr.count("it is trained again") == len(told)
    result = done.json()
    assert len(place.trained()) - known == result["stepsTrained"] == 5 * (12 + 7)
    check_against_oracle(place, result["trials"])
    # What was trained again is whole, and serves others.
    assert place.run(place.study("third", part_at_5(0.05)))["stepsTrained"] == 5 * 7


def test_a_damaged_decision_stops_a_study_and_damaged_results_are_trained_again(
    place: Place,
) -> None:
    study = place.study("study", SPACE)
    first = place.run(study)
    folder = place.store_folder / place.plan().plan
    decision = folder / "studies" / "study" / "decisions" / "000002.json"
    content = decision.read_text()
    decision.write_text(content[:20])
    (error,) = place.call("run", study, status=1).errors
    assert "decision 2 of study study" in error
    assert "restore it from a backup" in error
    decision.write_text(content)
    (chunk,) = (folder / "ledger").glob("*.json")
    chunk.write_bytes(b"")
    done = place.call("run", study, "-o", "json")
    assert f"{chunk.name} cannot be read" in done.stderr
    assert "it is trained again" in done.stderr
    assert done.json()["trials"] == first["trials"]
    assert done.json()["best"] == first["best"]


@pytest.mark.parametrize("file", ["plan.json", "studies/study/study.json"])
def test_a_newer_store_is_refused(place: Place, file: str) -> None:
    study = place.study("study", SPACE)
    place.run(study)
    known = len(place.trained())
    path = place.store_folder / place.plan().plan / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "formatVersion": 2, "new": 1}))
    (error,) = place.call("run", study, status=1).errors
    assert "was written by a newer Hippo (format 2, this one reads up to 1): upgrade" in error
    assert len(place.trained()) == known
