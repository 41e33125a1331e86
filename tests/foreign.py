"""Texts that would do harm where people read them, and what none of those may hold."""

from __future__ import annotations

import re

from hypothesis import strategies as st

ACTING = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u2060\ufeff\u00ad\u3164\u034f\ufe0f",
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    "\U000e0041",
    "\ud800",
    "\udc80",
]
"""Control characters, bidi controls, separators, what shows nothing, halves of characters."""

HOSTILE = (
    "\x1b]0;PWNED\x07\x1b[2J\x1b[31mred\x1b[8m\x9b1A\r\nERROR forged line\u202egnp.exe\u2066"
    "\u200b\u2028x\u2029[bold][/INST] [link=http://x]y[/link] :smile: \ud800 \x00"
    " https://user:pa/SECRET@host/p?X-Amz-Signature=SECRET"
)
"""All at once. ``SECRET`` is the key that nobody may see."""

_LEFT = re.compile(f"[{re.escape(''.join(c for c in ACTING if c != chr(10)))}]")


def find_harm(text: str) -> list[str]:
    """What in a text, of several lines perhaps, should not be there."""
    return [hex(ord(char)) for char in _LEFT.findall(text)] + re.findall("SECRET", text)


hostile_texts = st.text(
    st.one_of(st.sampled_from(ACTING), st.characters(), st.sampled_from("[]/\\:@?#&=ab "))
)
