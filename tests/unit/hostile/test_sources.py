"""Nothing of Hippo's own reads what could run: no pickle, no eval, no YAML with tags."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = {*("pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml")}
CALLS = {"eval", "exec", "compile", "torch.load", "numpy.load", "np.load", "os.system"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in ("operator/hippo", "stage_runner", "charts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_false(keyword: ast.keyword) -> bool:
    """``numpy.lib.format.write_array`` would pickle if it were not told to refuse."""
    return isinstance(keyword.value, ast.Constant) and keyword.value.value is False


def find_dangers() -> list[str]:
    found = []
    for path, tree in sources():
        for node in ast.walk(tree):
            imported: list[str] = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [node.module or ""]
            found += [f"{path}: import {n}" for n in imported if n.partition(".")[0] in MODULES]
            if isinstance(node, ast.Call):
                if dotted(node.func) in CALLS:
                    found.append(f"{path}:{node.lineno}: {dotted(node.func)}")
                if any(
                    k.arg in ("shell", "allow_pickle") and not is_false(k) for k in node.keywords
                ):
                    found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.slow
def test_nothing_runs_what_it_reads() -> None:
    assert len(list(sources())) > 150
    assert find_dangers() == []
