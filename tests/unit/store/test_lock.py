"""The lock in a directory, and how a live holder is recognised."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from hippo.store import Holder
from tests.unit.store.lock_contract import LockContract


class TestLockInDirectory(LockContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


def test_without_proc_the_process_number_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hippo.store.lock._read_stat", lambda pid: [])
    me = Holder.current()
    assert me.process_start == ""
    assert not me.is_gone(seen_from=me)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert dataclasses.replace(me, pid=gone.pid).is_gone(seen_from=me)
