"""Identifies what results depend on besides the trainer: software, device and instruction set."""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path

from stage_runner.checkpoints.codec import FORMAT_VERSION

RUNNER_FORMAT = "1"
"""Must be increased whenever a change of the runner changes what a trainer computes."""

_CPUINFO = Path("/proc/cpuinfo")
_VECTOR = ("avx", "fma", "sse", "ssse", "amx", "f16c", "bmi", "asimd", "sve", "neon")


def take_fingerprint(*, threads: int, device: str) -> dict[str, str]:
    """Return names and versions as text. Call it after ``setup``, once all libraries are
    imported.
    """
    found = {
        "runner": f"{RUNNER_FORMAT}.{FORMAT_VERSION}",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "threads": str(threads),
        "cpu": f"{platform.machine()} {_find_vector_flags()}",
        "device": "cpu",
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found["numpy"] = str(numpy.__version__)
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = str(torch.__version__)
        found["kernels"] = str(torch.backends.cpu.get_cpu_capability())
        if device.startswith("cuda"):
            found["device"] = torch.cuda.get_device_name()
            found["cuda"] = str(torch.version.cuda)
            found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def describe_difference(one: dict[str, str], other: dict[str, str]) -> str | None:
    """Return how ``one`` differs from ``other``, such as ``torch 2.6 instead of 2.7``; None if
    equal.

    Names in only one of them do not count: the same trainer did not need that library there.
    """
    names = [name for name in one if name in other and one[name] != other[name]]
    texts = [f"{name} {one[name]} instead of {other[name]}" for name in names]
    return ", ".join(texts) or None


def _find_vector_flags() -> str:
    """Return the vendor and a digest of the instruction sets by which numeric libraries choose
    kernels.
    """
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor()
    parts = [line.partition(":") for line in reversed(lines)]
    fields = {name.strip(): value.strip() for name, _, value in parts}  # of the first processor
    flags = fields.get("flags", fields.get("Features", "")).split()
    vector = sorted(flag for flag in flags if flag.startswith(_VECTOR))
    digest = hashlib.sha256(" ".join(vector).encode()).hexdigest()[:8]
    return f"{fields.get('vendor_id', 'unknown')} {digest}"
