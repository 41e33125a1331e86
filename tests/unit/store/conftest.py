from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hippo.store import DirectoryBlobs, PlanStore

_NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns the directory of the plan's blobs."""
    return tmp_path / "store" / "plan"


@pytest.fixture
def store(folder: Path) -> PlanStore:
    return PlanStore(DirectoryBlobs(folder.parent), "plan")


@pytest.fixture
def namespace(tmp_path: Path) -> list[str]:
    """Returns a command prefix under which file systems can be mounted invisibly to others."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    mount = ["mount", "-t", "tmpfs", "none", str(tmp_path)]
    if subprocess.run([*_NAMESPACE, *mount], capture_output=True).returncode:
        pytest.skip("may not mount here")
    return _NAMESPACE
