"""Which files make a trainer another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hippo.local.devices import default_workers, visible_gpus
from hippo.local.sources import digest_sources


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
    assert digest_sources(tmp_path) == before


def test_gpus_are_those_that_may_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert visible_gpus() == ["2", "3"]
    assert default_workers(1) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    assert default_workers(10_000) == 1
