"""Which files make a trainer another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hippo.local.devices import default_workers, find_equal_gpus, find_gpus
from hippo.local.source_digest import digest_sources


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_edited_added_or_renamed_source_counts(tmp_path: Path) -> None:
    write(tmp_path / "trainer.py", "x = 1")
    seen = {digest_sources(tmp_path)}
    write(tmp_path / "trainer.py", "x = 2")
    seen.add(digest_sources(tmp_path))
    write(tmp_path / "package" / "model.py", "")
    seen.add(digest_sources(tmp_path))
    (tmp_path / "package" / "model.py").rename(tmp_path / "package" / "net.py")
    seen.add(digest_sources(tmp_path))
    assert len(seen) == 4


def test_what_is_no_source_does_not_count(tmp_path: Path) -> None:
    write(tmp_path / "trainer.py", "x = 1")
    before = digest_sources(tmp_path)
    write(tmp_path / "study.yaml", "a: 1")
    write(tmp_path / ".hippo" / "plan" / "x.py", "")
    write(tmp_path / "__pycache__" / "y.py", "")
    write(tmp_path / "env" / "pyvenv.cfg", "")
    write(tmp_path / "env" / "lib" / "z.py", "")
    (tmp_path / ".#trainer.py").symlink_to("user@host.1234")  # as Emacs locks a file
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    assert digest_sources(tmp_path) == before


def test_gpus_are_those_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert [gpu.position for gpu in find_gpus()] == [0, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == find_equal_gpus() == []
    assert default_workers(10_000, 0) == 1
    assert default_workers(1, 4) == 4


def test_only_gpus_of_one_model_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = "0, GPU-aa, NVIDIA A\\n1, GPU-bb, NVIDIA B\\n2, GPU-cc, NVIDIA A\\n"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu.position for gpu in find_gpus()] == [0, 1, 2]
    assert [gpu.position for gpu in find_equal_gpus()] == [0, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bb,0")
    assert [gpu.model for gpu in find_gpus()] == ["NVIDIA B", "NVIDIA A"]
    assert [gpu.position for gpu in find_equal_gpus()] == [0]


def test_what_is_no_file_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").write_text("a = 1\n")
    before = digest_sources(tmp_path)
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    assert digest_sources(tmp_path) == before
