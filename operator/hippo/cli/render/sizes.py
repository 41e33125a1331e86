"""Numbers of bytes, parsed and formatted."""

from __future__ import annotations

import re

from hippo.model import InvalidSpec

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kKMGT])(i?))?B")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str, option: str) -> int:
    """Parse ``10GB`` (powers of 1000) or ``500MiB`` (of 1024) to bytes. Raises InvalidSpec."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidSpec.at(
            option, f"must be a size such as 500MB, 10GB, 512MiB or 0B, not {text!r}"
        )
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[prefix or ""])


def describe_size(count: int) -> str:
    """Format bytes as ``1.5 GB``, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{count} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
