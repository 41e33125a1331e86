"""Sizes as people write them."""

from __future__ import annotations

import pytest

from hippo.cli.render.sizes import describe_size, parse_size
from hippo.model import InvalidSpec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0B", 0),
        ("10GB", 10**10),
        ("500MiB", 500 * 2**20),
        ("1.5 kB", 1500),
        ("2KB", 2000),
        (" 3TiB ", 3 * 2**40),
    ],
)
def test_a_size_is_a_number_and_a_unit(text: str, expected: int) -> None:
    assert parse_size(text, "--max-bytes") == expected


@pytest.mark.parametrize("text", ["", "10", "10G", "GB", "-1B", "1e3B", "10gb", "1,5GB", "inf B"])
def test_anything_else_is_one_clear_line(text: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        parse_size(text, "--max-bytes")
    assert str(error.value) == (
        f"--max-bytes: must be a size such as 500MB, 10GB, 512MiB or 0B, not {text!r}"
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_536_000, "1.54 MB"), (999_999, "1 MB")],
)
def test_sizes_are_told_in_three_digits(size: int, expected: str) -> None:
    assert describe_size(size) == expected
