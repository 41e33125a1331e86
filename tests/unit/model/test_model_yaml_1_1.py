"""A fixed table of what kubectl reads; ``tests/integration`` compares it with kubectl."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hippo.model import InvalidSpec
from hippo.model.documents import _documents
from hippo.model.yaml_1_1 import read_scalar
from tests.unit.model.test_model_documents import write

OTHERWISE: dict[str, tuple[Any, Any]] = {
    "010": (8, 10),
    "-010": (-8, -10),
    "+010": (8, 10),
    "0777": (511, 777),
    "0_10": (8, 10),
    "00010": (8, 10),
    "0O10": (8, "0O10"),
    "0B1": (1, "0B1"),
    "0X1F": (31, "0X1F"),
    ".5e3": (500.0, ".5e3"),
    "-.5e3": (-500.0, "-.5e3"),
    "1e5_0": (1e50, "1e5_0"),
    "._5": ("._5", 0.5),
    "1e400": ("1e400", math.inf),
    "-1e400": ("-1e400", -math.inf),
    "0xFFFFFFFFFFFFFFFFFF": ("0xFFFFFFFFFFFFFFFFFF", 2**72 - 1),
    **{word: (True, word) for word in ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"]},
    **{word: (False, word) for word in ["n", "N", "no", "No", "NO", "off", "Off", "OFF"]},
}
"""By plain scalar: as kubectl reads it, and as YAML 1.2 does."""

ALIKE: dict[str, Any] = {
    "0": 0, "00": 0, "-0": 0, "+1": 1, "08": 8, "09": 9, "0_7": 7, "12_": 12, "_1": "_1",
    "0o10": 8, "0o_7": 7, "0o8": "0o8", "-0o7": -7, "0b101": 5, "-0b1": -1, "0b2": "0b2",
    "0x1F": 31, "-0x1F": -31, "0x1_F": 31, "0x": "0x", "0xg": "0xg", "0x1p3": "0x1p3",
    "1_000": 1000, "1_000.5": 1000.5, "0.000_1": 0.0001, "1__0": 10,
    "01.5": 1.5, "010.5": 10.5, "08.5": 8.5, "01e3": 1000, "1.": 1, "1.e3": 1000, ".5": 0.5,
    "-.5": -0.5, "+.5": 0.5, "1e5": 100000, "1e-5": 1e-5, "1E5": 100000, "1.5E-3": 0.0015,
    "1e-400": 0, "5e-324": 5e-324, "1e308": 1e308, "0.1": 0.1, "1.0": 1, "-0.0": 0,
    "inf": "inf", ".iNf": ".iNf", "nan": "nan", ".Nan": ".Nan", "+.nan": "+.nan",
    "~": None, "null": None, "Null": None, "NULL": None, "nUll": "nUll",
    "true": True, "True": True, "TRUE": True, "tRUE": "tRUE", "false": False, "yEs": "yEs",
    "1:30": "1:30", "24:00": "24:00", "190:20:30": "190:20:30", "1:30.5": "1:30.5",
    "2024-1-1": "2024-1-1", "1.2.3": "1.2.3", "10m": "10m", "7d": "7d", "e5": "e5", "1e": "1e",
    "9007199254740993": 9007199254740993, "18446744073709551615": 18446744073709551615,
    ".": ".", "+": "+", "\uff10\uff11": "\uff10\uff11", "abc": "abc", "-x": "-x",
}  # fmt: skip
"""Plain scalars that both read alike."""


def is_like(one: Any, other: Any) -> bool:
    """Equal as JSON: a number is a double."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return isinstance(one, bool) is isinstance(other, bool) and float(one) == float(other)
    return type(one) is type(other) and bool(one == other)


@pytest.mark.parametrize("text", ALIKE)
def test_what_both_read_alike_is_read(tmp_path: Path, text: str) -> None:
    assert is_like(read_scalar(text), ALIKE[text])
    (found,) = _documents(write(tmp_path, f"- {text}\n- [{text}]\n- {{x: {text}}}\n"))
    assert all(is_like(value, ALIKE[text]) for value in (found[0], found[1][0], found[2]["x"])), (
        found
    )


@pytest.mark.parametrize("text", OTHERWISE)
def test_what_they_read_otherwise_is_refused(tmp_path: Path, text: str) -> None:
    kubectl, _ = OTHERWISE[text]
    assert is_like(read_scalar(text), kubectl)
    for place in (f"\na: {text}", f"\na: [1, {text}]", f"\n? {text}\n: 1", f"\na: &x {text}"):
        path = write(tmp_path, place)
        with pytest.raises(InvalidSpec) as caught:
            _documents(path)
        line = str(caught.value)
        assert line.startswith(f"{path}:2: {text} is "), line
        assert line.endswith(" to hippo run: write the one that you mean")
    quoted = f"- '{text}'\n- \"{text}\"\n- !!str {text}\n- |-\n  {text}\n- >-\n  {text}\n"
    assert _documents(write(tmp_path, quoted)) == [[text] * 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 010", '010 is 8 to kubectl and 10 to hippo run'),
        ("a: no", 'no is false to kubectl and "no" to hippo run'),
        ("a: 1e400", '1e400 is "1e400" to kubectl and inf to hippo run'),
        ("a: !!int '010'", "010 is 8 to kubectl and 10 to hippo run"),
        ("a: !!null x", 'x is "x" to kubectl and null to hippo run'),
        ("a: ! 010", "kubectl reads the tag ! otherwise: leave it out"),
        ("a: !!omap [b: 1]", "kubectl reads the tag "),
        ("a: !!binary aGk=", "kubectl reads the tag "),
        ("a: !mine b", "could not determine a constructor"),
        ("a: &x {b: 1}\nc: {b: 2, <<: *x}", "kubectl lets << override b before it: put << first"),
        ("x: &x {b: 1}\nz: &z {b: 2}\nc: {<<: [*x, *z]}", "kubectl lets << override b before it"),
        ("x: &x {b: 1}\nz: &z {<<: *x}\nc: {b: 2, <<: *z}", "kubectl lets << override b before"),
        ("a: 1\n...\nb: 2", "kubectl drops a document that does not begin with ---"),
        ("a: b\u2028  c", "U+2028 is a line break to kubectl: write \\L in double quotes"),
        ('a: "\\ud83d\\ude00"', "holds half of a character: write it as it is"),
        ("a: !!bool 1", "is not YAML: 1 is no !!bool"),
        (f"a: 0{'7' * 3000}", "0777777777777777777777777777777777777... is "),
    ],
)  # fmt: skip
def test_what_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text + "\n")
    with pytest.raises(InvalidSpec) as caught:
        _documents(path)
    assert message in str(caught.value)
    assert all(line.startswith(f"{path}:") for line in str(caught.value).splitlines())
    assert len(str(caught.value)) < 400


def test_every_difference_is_told_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a: 010\nb: {y: 1, x: 2}\n---\nc: off\n")
    with pytest.raises(InvalidSpec) as caught:
        _documents(path)
    places = [line.split(" is ")[0] for line in str(caught.value).splitlines()]
    assert places == [f"{path}:1: 010", f"{path}:2: y", f"{path}:4: off"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x: &x {b: 1}\nc: {<<: *x, b: 2}", {"x": {"b": 1}, "c": {"b": 2}}),
        ("x: &x {b: 1}\nc: {d: 2, <<: *x}", {"x": {"b": 1}, "c": {"d": 2, "b": 1}}),
        ("'<<': {b: 1}", {"<<": {"b": 1}}),
        ('a: "b\u2028c\\L"', {"a": "b\u2028c\u2028"}),
        ("\ufeffa: \U0001f600", {"a": "\U0001f600"}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("a: {x: !!float 3, y1: !!int 0x1F}", {"a": {"x": 3, "y1": 31}}),
        ("a: &x 1\nb: *x", {"a": 1, "b": 1}),
        ('{"a": 1e5, "b": ["no", true]}', {"a": 100000, "b": ["no", True]}),
    ],
)
def test_sound_documents_are_read(tmp_path: Path, text: str, read: Any) -> None:
    assert _documents(write(tmp_path, text)) == [read]
    assert _documents(write(tmp_path, f"--- # one\n{text.lstrip(chr(0xFEFF))}\n...\n")) == [read]
