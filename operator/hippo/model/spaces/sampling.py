"""Stateless randomness: every draw is a hash of a seed and of the thing drawn.

The index-th draw thus does not depend on earlier draws, on the caller, or on the platform.
"""

from __future__ import annotations

import decimal
import math
from hashlib import sha256

_CONTEXT = decimal.Context(prec=24, rounding=decimal.ROUND_HALF_EVEN)
_ROUNDS = 8

MAX_PERMUTED = 2**512
"""Largest size for ``permuted``: one hash covers half the bits of an index."""


def unit(seed: int, index: int, label: str) -> float:
    """Returns a uniform number in [0, 1)."""
    digest = sha256(f"hippo draw {seed} {index} {label}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def below(seed: int, index: int, label: str, bound: int) -> int:
    """Returns an integer in [0, bound), uniform up to less than one part in 2^64."""
    digest = sha256(f"hippo draw {seed} {index} {label}".encode()).digest()
    return int.from_bytes(digest[:16], "big") * bound >> 128


def between(low: float, high: float, position: float) -> float:
    """Returns the number at a position in [0, 1), to 6 significant digits."""
    return rounded(low * (1 - position) + high * position, low, high)


def between_log(low: float, high: float, position: float) -> float:
    """Like ``between`` on a logarithmic scale; low > 0. Decimal arithmetic gives the same results
    on all platforms.
    """
    context = _CONTEXT
    start = context.ln(decimal.Decimal(low))
    way = context.subtract(context.ln(decimal.Decimal(high)), start)
    point = context.add(start, context.multiply(way, decimal.Decimal(position)))
    return rounded(float(context.exp(point)), low, high)


def position(low: float, high: float, x: float) -> float:
    """Inverse of ``between``, approximately, in [0, 1]."""
    if math.isinf(high - low):
        low, high, x = low / 2, high / 2, x / 2
    return min(max((x - low) / (high - low), 0.0), 1.0)


def position_log(low: float, high: float, x: float) -> float:
    """Inverse of ``between_log``, approximately, in [0, 1]."""
    start, end, at = (_CONTEXT.ln(decimal.Decimal(number)) for number in (low, high, x))
    way = _CONTEXT.divide(_CONTEXT.subtract(at, start), _CONTEXT.subtract(end, start))
    return min(max(float(way), 0.0), 1.0)


def rounded(x: float, low: float, high: float) -> float:
    """Rounds to 6 significant digits, but never outside [low, high]."""
    return min(max(float(f"{x:.6g}"), low), high) + 0.0


def permuted(seed: int, index: int, size: int) -> int:
    """Returns the image of an index under a seeded permutation of range(size), in constant memory.

    ``size`` is at most MAX_PERMUTED. A Feistel network on the least even number of bits that holds
    ``size`` is applied until the result is below it (cycle walking: J. Black and P. Rogaway,
    "Ciphers with arbitrary finite domains", CT-RSA 2002); fewer than four applications on average.
    """
    if size == 1:
        return 0
    half = ((size - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for number in range(_ROUNDS):
            text = f"hippo permutation {seed} {size} {number} {right}"
            digest = int.from_bytes(sha256(text.encode()).digest(), "big")
            left, right = right, left ^ (digest & mask)
        index = left << half | right
        if index < size:
            return index
