"""A checkpoint as a file for other programs: what ``torch.save`` writes, or NumPy's ``.npz``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hippo.store import CorruptCheckpoint, PlanStore
from stage_runner.codec import CodecError, decode

_MISSING_TORCH = (
    "PyTorch is not installed here, and the export is a PyTorch file: install torch, or name a"
    " file that ends in .npz for the arrays alone"
)


def export(store: PlanStore, key: str, output: Path) -> int:
    """Write the checkpoint of a content key to ``output``; by its ending, ``.npz`` or PyTorch's.

    A PyTorch file holds the trainer's state_dict as it was; an ``.npz`` holds its arrays by their
    path. Returns the exit status: 0, or 3 if the checkpoint is damaged, 2 if it cannot be
    exported so. Raises StoreError.
    """
    try:
        data = store.read_checkpoint(store.read_manifest(key))
        state = decode(data)
    except CorruptCheckpoint as error:
        return _refuse(str(error), 3)
    except CodecError as error:
        return _refuse(f"checkpoint {key}: {error}", 3)
    library = "numpy" if output.suffix == ".npz" else "torch"
    try:
        module = importlib.import_module(library)
    except ImportError:
        return _refuse(_MISSING_TORCH if library == "torch" else "NumPy is not installed here", 2)
    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            if library == "torch":
                module.save(state, file)
            elif arrays := dict(_find_arrays(state, "")):
                module.savez(file, **arrays)
            else:
                return _refuse("the state holds no arrays: name a file that ends in .pt", 2)
        partial.replace(output)
    except OSError as error:
        return _refuse(f"{output}: {error.strerror}", 2)
    finally:
        partial.unlink(missing_ok=True)
    return 0


def _find_arrays(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Arrays and tensors by path: ``model.fc.weight``, ``layers.0``."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _find_arrays(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find_arrays(item, f"{path}.{index}" if path else str(index))
    elif hasattr(value, "shape"):
        held = value.float() if str(getattr(value, "dtype", "")) == "torch.bfloat16" else value
        yield path or "state", held.numpy() if hasattr(held, "numpy") else held


def _refuse(message: str, status: int) -> int:
    sys.stderr.write(f"{message}\n")
    return status
