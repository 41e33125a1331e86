"""Where in their own code users are led to."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from stage_runner.failures import describe


def fail(file: Path) -> BaseException:
    with pytest.raises(ValueError, match="too large") as caught:
        runpy.run_path(str(file))
    return caught.value


def test_the_place_is_told_below_the_trainers_folder(tmp_path: Path) -> None:
    file = tmp_path / "models" / "trainer.py"
    file.parent.mkdir()
    file.write_text("def fail():\n    raise ValueError('too large')\n\nfail()\n")
    assert describe(fail(file), tmp_path) == "ValueError: too large (models/trainer.py:2)"


def test_files_of_a_configmap_go_by_their_names(tmp_path: Path) -> None:
    hidden = tmp_path / "..2026_11_25_22_42_40.3509522125"
    hidden.mkdir()
    (hidden / "trainer.py").write_text("raise ValueError('too large')\n")
    (tmp_path / "..data").symlink_to(hidden.name)
    (tmp_path / "trainer.py").symlink_to("..data/trainer.py")
    error = fail(tmp_path / "trainer.py")
    assert describe(error, tmp_path) == "ValueError: too large (trainer.py:1)"


def test_a_linked_folder_is_the_trainers_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "trainer.py").write_text("raise ValueError('too large')\n")
    (tmp_path / "link").symlink_to("real")
    error = fail(tmp_path / "link" / "trainer.py")
    assert describe(error, tmp_path / "real") == "ValueError: too large (trainer.py:1)"
