"""The engine and all its dependencies do no I/O."""

from __future__ import annotations

import json
import subprocess
import sys

IO = ("asyncio", "fcntl", "subprocess", "sqlite3", "ssl", "http.client", "minio", "urllib3")
ROOMS = ("store", "session", "gc", "views", "local", "kube", "simulate", "cli", "client")


def test_the_engine_loads_no_module_that_does_io() -> None:
    code = "import json, sys, hippo.engine; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    loaded = set(json.loads(found))
    assert "hippo.engine.scheduling.scheduler" in loaded
    assert loaded.isdisjoint(IO)
    assert loaded.isdisjoint({f"hippo.{room}" for room in ROOMS})
