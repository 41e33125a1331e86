"""Seeds random generators from the training position, so that their state need not be saved.

Seeding at every step costs some microseconds. ``torch.manual_seed`` would cost far more, since it
also visits every accelerator back end; hence the generators are seeded one by one.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import random
import sys
from collections.abc import Callable
from functools import partial
from importlib.abc import MetaPathFinder
from typing import Any


def seed_generators(label: str, *numbers: int) -> None:
    """Seed every global generator in this process from a label and integers.

    This includes PyTorch's CUDA generators once CUDA is initialised. After ``seed_imports``,
    libraries that are imported later are seeded on import.
    """
    text = f"{label}:{','.join(map(str, numbers))}"
    digest = hashlib.blake2b(text.encode(), digest_size=20).digest()
    random.seed(int.from_bytes(digest[:8], "little"))
    for name, seed in _LIBRARIES.items():
        library = sys.modules.get(name)
        if library is not None:
            seed(library, digest)
    _FINDER.digest = digest


def seed_imports() -> None:
    """Seed the generators, so that importing a module draws the same numbers in every process."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    seed_generators("import")


def _seed_numpy(numpy: Any, digest: bytes) -> None:
    numpy.random.seed(int.from_bytes(digest[8:12], "little"))


def _seed_torch(torch: Any, digest: bytes) -> None:
    if not hasattr(torch, "default_generator"):
        return  # it is being imported
    seed = int.from_bytes(digest[12:], "little") >> 1  # generators take 63 bits
    torch.default_generator.manual_seed(seed)
    for generator in torch.cuda.default_generators:
        generator.manual_seed(seed)


_LIBRARIES: dict[str, Callable[[Any, bytes], None]] = {"numpy": _seed_numpy, "torch": _seed_torch}


class _Finder(MetaPathFinder):
    """Delegates to Python's own finder, and seeds the libraries once they are imported."""

    digest = b""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in _LIBRARIES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = partial(self._run, run, fullname)  # type: ignore[method-assign]
        return spec

    def _run(self, run: Callable[[Any], None], name: str, module: Any) -> None:
        run(module)
        _LIBRARIES[name](module, self.digest)


_FINDER = _Finder()


def derive_seed(label: str, *numbers: int) -> int:
    """Return a 63-bit seed for a separate generator, from the same hash."""
    text = f"{label}:{','.join(map(str, numbers))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
