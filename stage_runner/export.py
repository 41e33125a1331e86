"""Exports a checkpoint to a file for other programs: ``torch.save``, NumPy's ``.npz``, or
``.safetensors``.
"""

from __future__ import annotations

import importlib
import os
import secrets
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hippo.store import CorruptCheckpoint, PlanStore
from stage_runner.checkpoints.codec import CodecError, decode
from stage_runner.failures import say
from stage_runner.portable import NotPortable, bare_names, is_tensor, make_portable

EXIT_CORRUPT = 3
EXIT_REFUSED = 2

_MISSING = {
    "torch": "PyTorch is not installed here, and {output} would be a PyTorch file: install torch,"
    " or name a file that ends in .npz for the arrays alone",
    "numpy": "NumPy is not installed here, and {output} would hold its arrays: install numpy",
    "safetensors": "safetensors is not installed here: pip install 'hippo-tuner[safetensors]',"
    " or name a file that ends in .pt",
}


@dataclass(frozen=True, slots=True)
class Request:
    """Which checkpoint to export, and to which file."""

    key: str
    output: Path
    about: str = ""  # the trial and its step, for formats with metadata
    keep_names: bool = False  # keep the names that wrappers add


def export(store: PlanStore, request: Request) -> int:
    """Write the checkpoint of a content key; the suffix of the output selects the format.

    Returns the exit status: 0, or 3 if the checkpoint is damaged, 2 if it cannot be exported so.
    Raises StoreError.
    """
    output = request.output
    try:
        data = store.read_checkpoint(store.read_manifest(request.key))
        state = decode(data)
    except CorruptCheckpoint as error:
        return _refuse(str(error), EXIT_CORRUPT)
    except CodecError as error:
        return _refuse(f"checkpoint {request.key}: {error}", EXIT_CORRUPT)
    write = {".npz": _write_numpy, ".safetensors": _write_safetensors}.get(
        output.suffix.lower(), _write_torch
    )
    partial = output.with_name(f".{output.name}.{secrets.token_hex(8)}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        write(state, partial, request)
        partial.replace(output)
    except _Missing as error:
        return _refuse(_MISSING[error.library].format(output=output.name), EXIT_REFUSED)
    except NotPortable as error:
        return _refuse(str(error), EXIT_REFUSED)
    except OSError as error:
        return _refuse(f"{output}: {error.strerror or error}", EXIT_REFUSED)
    finally:
        partial.unlink(missing_ok=True)
    return 0


class _Missing(Exception):
    def __init__(self, library: str) -> None:
        super().__init__(library)
        self.library = library


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise _Missing(name.partition(".")[0]) from None


def _refuse(message: str, status: int) -> int:
    say(message)
    return status


# -- PyTorch ---------------------------------------------------------------------------------------


def _write_torch(state: Any, output: Path, request: Request) -> None:
    torch = _import("torch")
    with output.open("wb") as file:
        torch.save(make_portable(state, torch, keep_names=request.keep_names), file)


# -- NumPy -----------------------------------------------------------------------------------------


def _write_numpy(state: Any, output: Path, request: Request) -> None:
    """Write like ``numpy.savez``, which accepts no array named ``file``."""
    numpy = _import("numpy")
    arrays = name_arrays(state, keep_names=request.keep_names)
    if not arrays:
        raise NotPortable("the state holds no arrays: name a file that ends in .pt")
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, value in arrays.items():
            try:
                info = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(info, "w", force_zip64=True) as member:
                    numpy.lib.format.write_array(member, _as_array(value), allow_pickle=False)
            except (UnicodeError, ValueError) as error:
                raise NotPortable(f"{name!r} cannot be written to .npz: {error}") from None


def name_arrays(state: Any, *, keep_names: bool = False) -> dict[str, Any]:
    """Return all arrays and tensors by name: ``model.fc.weight``, ``layers.0``.

    If two would have the same name, each has its path instead: ``['a.b']`` and ``['a']['b']``.
    """
    found = list(_find_arrays(state, "", "", keep_names=keep_names))
    times = Counter(name.removesuffix(".npy") for name, _, _ in found)  # NumPy reads both as one

    def is_sound(name: str) -> bool:
        return times[name.removesuffix(".npy")] == 1 and "\0" not in name  # which ends it in a zip

    return {name if is_sound(name) else path: value for name, path, value in found}


def _find_arrays(
    value: Any, name: str, path: str, *, keep_names: bool
) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, Mapping):
        bare = {} if keep_names else bare_names(value)
        for key, item in value.items():
            shown = bare.get(key, str(key))
            yield from _find_arrays(
                item,
                f"{name}.{shown}" if name else shown,
                f"{path}[{key!r}]",
                keep_names=keep_names,
            )
    elif is_tensor(value):
        yield name or "state", path or "state", value
    elif hasattr(value, "__iter__") and not isinstance(value, str | bytes | bytearray):
        for index, item in enumerate(value):
            below = f"{name}.{index}" if name else str(index)
            yield from _find_arrays(item, below, f"{path}[{index}]", keep_names=keep_names)


def _as_array(value: Any) -> Any:
    """Convert to NumPy, which has no bfloat16, float8 or complex32: wider types hold the same
    numbers.
    """
    numpy = importlib.import_module("numpy")
    if not hasattr(value, "detach"):
        return numpy.asarray(value)
    tensor = value.detach().cpu().resolve_conj().resolve_neg()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype == "bfloat16" or dtype.startswith("float8"):
        tensor = tensor.float()
    elif dtype == "complex32":
        tensor = tensor.cfloat()
    return tensor.numpy()


# -- safetensors -----------------------------------------------------------------------------------


def _write_safetensors(state: Any, output: Path, request: Request) -> None:
    """Write the tensors of ``state["model"]`` under their names in the model, or else all
    tensors under their names in the state. Tensors that share memory are each written in full.
    """
    torch, library = _import("torch"), _import("safetensors.torch")
    is_model = isinstance(state, Mapping) and _has_tensors(state.get("model"))
    part = state["model"] if is_model else state
    portable = make_portable(part, torch, keep_names=request.keep_names)
    tensors = {
        name: value.detach().to("cpu").resolve_conj().resolve_neg().clone().contiguous()
        for name, value in name_arrays(portable, keep_names=True).items()
    }
    if not tensors:
        raise NotPortable("the state holds no tensors: name a file that ends in .pt")
    for name, tensor in tensors.items():
        _check_type(library, torch, name, tensor)
    about = {"format": "pt", "hippo.checkpoint": request.key}
    if request.about:
        about["hippo.trial"] = request.about
    output.write_bytes(library.save(tensors, about))


def _has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(name_arrays(value))


def _check_type(library: Any, torch: Any, name: str, tensor: Any) -> None:
    try:
        library.save({"x": torch.empty(0, dtype=tensor.dtype)})
    except Exception:  # the exception for an unknown type is not documented
        raise NotPortable(
            f"{name}: safetensors holds no {str(tensor.dtype).removeprefix('torch.')}; name a file"
            " that ends in .pt"
        ) from None
