"""Untrusted text has no effect where it is shown, and reveals no secrets."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model.foreign import as_line, as_lines, clip, hide_keys, quote
from hippo.model.words import on_one_line
from tests.foreign import ACTING, HOSTILE, find_harm, hostile_texts


@pytest.mark.parametrize("char", ACTING, ids=ascii)
def test_what_acts_is_spelled_out(char: str) -> None:
    assert on_one_line(f"a{char}b") == f"a{char.encode('unicode_escape').decode()}b"


@pytest.mark.parametrize("text", ["", "plain", "Güte ✓ 損失 é", "[relu, tanh] :smile:", r"\x1b"])
def test_what_does_not_stays_as_it_is(text: str) -> None:
    assert on_one_line(text) == as_line(text) == as_lines(text) == text


@given(hostile_texts)
def test_a_line_is_one_that_any_terminal_shows(text: str) -> None:
    line = as_line(text)
    assert line.isprintable()
    assert find_harm(line) == []
    line.encode()


@given(hostile_texts)
def test_lines_stay_as_many_as_they_were(text: str) -> None:
    lines = as_lines(text)
    assert lines.count("\n") == text.count("\n")
    assert find_harm(lines.replace("\t", "")) == []


def test_all_at_once() -> None:
    assert find_harm(as_line(HOSTILE)) == []
    assert "ERROR forged line" in as_line(HOSTILE)
    assert "[bold][/INST]" in as_line(HOSTILE)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("at https://u:p@host/x now", "at https://...@host/x now"),
        ("s3://AKIA:S/E/C@bucket/x", "s3://...@bucket/x"),
        ("s3:/AKIA:S/E/C@bucket/x", "s3:/...@bucket/x"),
        ("[red]://u:p@host?token=x", "[red]://...@host?..."),
        ("/tmp/[red]:/u:p@host?token=x: no", "/tmp/[red]:/...@host?...: no"),
        ("http://token@host", "http://...@host"),
        ("https://h/p?X-Amz-Signature=abc&b=1: gone", "https://h/p?...: gone"),
        ("url: /bucket/key?X-Amz-Credential=a&x-amz-security-token=b c",
         "url: /bucket/key?X-Amz-Credential=...&x-amz-security-token=... c"),
        ("('http://u:p@h:1', 2)", "('http://...@h:1', 2)"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
        ("hf://org/model@rev", "hf://org/model@rev"),
        ("mail a@b, see https://host/x", "mail a@b, see https://host/x"),
        ("lr=0.1@0|0.01@12", "lr=0.1@0|0.01@12"),
    ],
)  # fmt: skip
def test_keys_in_urls_are_not_told(text: str, told: str) -> None:
    assert hide_keys(text) == told
    assert hide_keys(told) == told


@pytest.mark.slow
def test_an_absurd_text_takes_no_time() -> None:
    began = time.process_time()
    for piece in ("a://b:", "a://", "x-amz-", "a://b?", "://"):
        as_line(piece * 100_000)
    assert time.process_time() - began < 60  # a square would take hours


@pytest.mark.slow
@given(hostile_texts, st.integers(0, 60))
def test_a_text_is_clipped_to_bytes(text: str, most: int) -> None:
    clipped = clip(text, most)
    if len(text.encode("utf-8", "backslashreplace")) <= most:
        assert clipped == text
    else:
        assert len(clipped.encode()) <= most


def test_a_clipped_message_keeps_its_remedy() -> None:
    text = quote(f"there is no store at {'x' * 5000}: name another one")
    assert text.startswith("there is no store at xxx")
    assert " ... (5039 bytes) ... " in text
    assert text.endswith("xxx: name another one")
    assert len(text) == 2000
