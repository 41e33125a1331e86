"""All that is printed passes one place, so that the border for text of others cannot be missed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "operator/hippo").rglob("*.py"), *(ROOT / "stage_runner").rglob("*.py")])
BORDERS = {ROOT / "operator/hippo/cli/render/output.py", ROOT / "stage_runner/failures.py"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
HARMLESS = {"flush", "fileno"}
FORBIDDEN = {
    *("print", "Console", "pprint", "echo", "secho", "print_exception"),
    *("print_exc", "print_stack", "print_tb", "StreamHandler", "basicConfig"),
}


def find_faults(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in STREAMS and is_named(node.value, "sys"):
            above = parents.get(node)
            if not (isinstance(above, ast.Attribute) and above.attr in HARMLESS):
                yield f"line {node.lineno}: sys.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            yield f"line {node.lineno}: from sys import ..."
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        is_method = isinstance(node.func, ast.Attribute) and name == "print"
        if name in FORBIDDEN and not is_method:  # of a console, which the border has made
            yield f"line {node.lineno}: {name}()"
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        is_raw = name == "write" and owner is not None and is_named(owner, "os")
        if is_raw and is_number(node.args[0], {1, 2}):
            yield f"line {node.lineno}: os.write({ast.unparse(node.args[0])}, ...)"
        if owner is not None and is_named(owner, "subprocess"):
            given = {keyword.arg for keyword in node.keywords}
            if "capture_output" not in given and not {"stdout", "stderr"} <= given:
                yield f"line {node.lineno}: a process inherits a stream"


def is_named(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def is_number(node: ast.expr, numbers: set[int]) -> bool:
    return isinstance(node, ast.Constant) and node.value in numbers


def is_streams_own(file: Path) -> bool:
    """Where the runner prepares its streams for the trainer, and for what the trainer starts."""
    return file in (ROOT / "stage_runner/worker.py", ROOT / "stage_runner/verify.py")


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_else_prints(file: Path) -> None:
    faults = list(find_faults(file.read_text())) if file not in BORDERS else []
    if is_streams_own(file):
        faults = [
            fault
            for fault in faults
            if not fault.endswith(("sys.stdout", "sys.stderr", "a stream"))
        ]
    assert faults == []


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "sys.stderr.write('x')",
        "out = sys.stdout",
        "from sys import stderr",
        "Console(file=f)",
        "rich.console.Console()",
        "typer.echo('x')",
        "traceback.print_exception(e)",
        "os.write(2, b'x')",
        "subprocess.run(['ls'], check=False)",
        "subprocess.Popen(['ls'], stdout=PIPE)",
        "logging.basicConfig()",
    ],
)
def test_what_would_print_is_found(source: str) -> None:
    assert len(list(find_faults(source))) == 1


def test_what_does_not_is_not() -> None:
    source = "sys.stdout.flush()\nconsole.print(text)\nsubprocess.run(['ls'], capture_output=True)"
    assert list(find_faults(source)) == []
