"""One file means one study: what hippo reads of it is what kubectl reads."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.model import InvalidSpec
from hippo.model.documents import _documents
from hippo.model.yaml_1_1 import read_scalar
from tests.cluster import programs
from tests.integration.charts import find_program
from tests.unit.model.test_model_yaml_1_1 import ALIKE, OTHERWISE, is_like

HEAD = "apiVersion: hippo.dev/v1alpha1\nkind: Study\nmetadata: {name: s}\nspec:\n"
DOCUMENTS = [
    "x: &x {b: 1}\nc: {<<: *x, b: 2}",
    "x: &x {b: 1}\nc: {d: 2, <<: *x}",
    "x: &x {b: 1}\nc: {b: 2, <<: *x}",
    "x: &x {b: 1}\nz: &z {b: 2}\nc: {<<: [*x, *z]}",
    "a: ! 010",
    "a: !!omap [b: 1]",
    "a: !!float 3",
    "a: !!int '010'",
    "a: !!str 010",
    "a: {b:1, 'c':2, d: e:f}",
    "a: [1:30, 2,]",
    "a: |\n  x\n  y\nb: >-\n  x\n  y",
    'a: "\\x41\\u0041\\N"',
    "a: b\u2028  c",
    "a: {b, c: }",
    "? a\n: b",
    "a: &x 1\nb: *x",
]


def read_as_kubectl(folder: Path, *texts: str) -> list[Any]:
    """The spec of each study; None if kubectl refuses the file."""
    kubectl = find_program("kubectl", programs.KUBERNETES)
    path = folder / "asked.yaml"
    found = []
    for text in texts:
        body = "".join(f"  {line}\n" for line in text.splitlines())
        path.write_text(HEAD + body, encoding="utf-8")
        done = subprocess.run(
            [kubectl, "patch", "--local", "--type=merge", "-p", "{}", "-o", "json", "-f", path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found.append(json.loads(done.stdout)["spec"] if done.returncode == 0 else None)
    return found


def test_the_table_is_what_kubectl_reads(tmp_path: Path) -> None:
    texts = [*ALIKE, *OTHERWISE]
    (spec,) = read_as_kubectl(tmp_path, "values:\n" + "".join(f"- {text}\n" for text in texts))
    expected = [*ALIKE.values(), *(kubectl for kubectl, _ in OTHERWISE.values())]
    for text, read, value in zip(texts, spec["values"], expected, strict=True):
        assert is_like(read, value), (text, read, value)


@given(st.lists(st.text("0123456789_+-.eExXoObB:afn", min_size=1, max_size=8), max_size=80))
@settings(max_examples=25)
def test_any_scalar_is_read_as_kubectl_reads_it(texts: list[str]) -> None:
    texts = ["0", *(text for text in texts if _is_plain(text))]
    listed = "values:\n" + "".join(f"- {text}\n" for text in texts)
    with tempfile.TemporaryDirectory() as folder:
        (spec,) = read_as_kubectl(Path(folder), listed)
    for text, read in zip(texts, spec["values"], strict=True):
        assert is_like(read, read_scalar(text)), (text, read)


def _is_plain(text: str) -> bool:
    """Whether it is a scalar that needs no quotes, and that JSON has."""
    value = read_scalar(text)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return not text.endswith(":") and text[0] != ":" and text not in ("-", "---", "...")


@pytest.mark.parametrize("text", DOCUMENTS)
def test_a_document_is_read_as_kubectl_reads_it_or_refused(tmp_path: Path, text: str) -> None:
    (expected,) = read_as_kubectl(tmp_path, text)
    try:
        (found,) = _documents(tmp_path / "asked.yaml")
    except InvalidSpec:
        return
    assert found["spec"] == expected
