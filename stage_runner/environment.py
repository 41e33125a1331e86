"""Environment settings that must precede the import of numeric libraries."""

from __future__ import annotations

import os
import sys


def set_threads(threads: int) -> None:
    """Set the CPU threads of NumPy and PyTorch, imported or not; results depend on them."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def choose_device() -> str:
    """``cuda`` if PyTorch is imported and has a GPU, else ``cpu``."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    torch.cuda.init()  # its generators can be seeded only after this
    return "cuda"
