"""Random generators as functions of where training stands, so that their state is never saved.

Seeding at every step costs some microseconds. ``torch.manual_seed`` would cost far more (it also
visits every accelerator back end), hence the generators are seeded one by one.
"""

from __future__ import annotations

import hashlib
import random
import sys


def seed_generators(label: str, *numbers: int) -> None:
    """Seed every global generator in this process from a label and integers.

    Only libraries that are imported already; PyTorch's CUDA generators once CUDA is initialised.
    """
    text = f"{label}:{','.join(map(str, numbers))}"
    digest = hashlib.blake2b(text.encode(), digest_size=20).digest()
    random.seed(int.from_bytes(digest[:8], "little"))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(int.from_bytes(digest[8:12], "little"))
    torch = sys.modules.get("torch")
    if torch is not None:
        seed = int.from_bytes(digest[12:], "little") >> 1  # generators take 63 bits
        torch.default_generator.manual_seed(seed)
        for generator in torch.cuda.default_generators:
            generator.manual_seed(seed)


def derive_seed(label: str, *numbers: int) -> int:
    """A seed of 63 bits for a generator of one's own, from the same kind of hash."""
    text = f"{label}:{','.join(map(str, numbers))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
