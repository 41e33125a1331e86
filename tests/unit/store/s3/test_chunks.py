"""Parts hold the bytes of the chunks, in order, each of the requested size."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from hippo.store.s3.chunks import Part, Parts

CHUNKS = st.lists(st.binary(max_size=20), max_size=8)
SIZES = st.lists(st.integers(1, 25), min_size=1, max_size=4)


def taken(parts: Parts, sizes: list[int]) -> list[tuple[int, Part]]:
    """Returns all parts, cycling through the sizes."""
    found: list[tuple[int, Part]] = []
    while parts.has_more:
        size = sizes[len(found) % len(sizes)]
        found.append((size, parts.take(size)))
    return found


def through_one_buffer(chunks: list[bytes]) -> Iterator[memoryview]:
    buffer = bytearray(20)
    for chunk in chunks:
        buffer[: len(chunk)] = chunk
        yield memoryview(buffer)[: len(chunk)]


@given(CHUNKS, SIZES)
def test_nothing_is_lost_and_only_the_last_part_is_short(
    chunks: list[bytes], sizes: list[int]
) -> None:
    for parts in (Parts(chunks), Parts(iter(chunks)), Parts(through_one_buffer(chunks))):
        found = taken(parts, sizes)
        assert b"".join(part for _, part in found) == b"".join(chunks)
        assert all(len(part) == size for size, part in found[:-1])
        assert all(0 < len(part) <= size for size, part in found[-1:])
        assert bytes(parts.take(5)) == b""


def test_what_is_in_memory_is_not_copied() -> None:
    data = bytearray(b"0123456789")
    parts = Parts([memoryview(data)])
    first, second = parts.take(6), parts.take(6)
    data[0] = data[9] = ord("x")
    assert (bytes(first), bytes(second)) == (b"x12345", b"678x")
