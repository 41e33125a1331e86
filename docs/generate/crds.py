"""The reference of the custom resources, from the schemas that the cluster is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hippo.kube.crds.definitions import build_crds

Schema = dict[str, Any]

PAGE = "docs/reference/crds.md"

_INTRODUCTION = """\
# Custom resources

Every field of `Study`, `Trial` and `SearchPlan`, from the schemas that `hippo crds` writes. How the
objects are used: [objects.md](../objects.md); what a study's fields do, and what its defaults are:
[studies.md](../studies.md). A field in **bold** is required. `[]` stands for each item of a list,
`*` for each key of a mapping."""

_MOST_LEVELS = 2
"""Below ``choices[]``: a schedule, and its parameters. Deeper ones repeat what stands above."""


class Row(NamedTuple):
    path: str
    kind: str
    text: str
    is_required: bool


def render_crds() -> str:
    parts = [_INTRODUCTION, *(_render(definition) for definition in build_crds())]
    return "\n\n".join(parts) + "\n"


def _render(definition: Schema) -> str:
    spec = definition["spec"]
    (version,) = spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    names = spec["names"]
    lines = [f"## {names['kind']}", "", schema.get("description", ""), ""]
    short = ", ".join(f"`{name}`" for name in names.get("shortNames", []))
    lines += [
        f"`{spec['group']}/{version['name']}`, `kubectl get {names['plural']}` (short: {short})"
    ]
    for part in ("spec", "status"):
        found = schema["properties"][part]
        lines += ["", f"### {names['kind']}: {part}", "", found.get("description", "")]
        lines += ["", "| field | type | meaning |", "| --- | --- | --- |"]
        for row in walk(found, part):
            name = f"**`{row.path}`**" if row.is_required else f"`{row.path}`"
            lines.append(f"| {name} | {_cell(row.kind)} | {_cell(row.text)} |")
    columns = version.get("additionalPrinterColumns", [])
    lines += ["", f"### {names['kind']}: columns", "", "| column | from | meaning |"]
    lines += ["| --- | --- | --- |"]
    for column in columns:
        path, text = column["jsonPath"], column.get("description", "")
        lines.append(f"| {column['name']} | `{path}` | {_cell(text)} |")
    return "\n".join(lines)


def walk(schema: Schema, path: str) -> Iterator[Row]:
    """The fields below a schema, in its order."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        yield Row(below, _describe(field), field.get("description", ""), name in required)
        yield from _descend(field, below)


def _descend(schema: Schema, path: str) -> Iterator[Row]:
    _, choices, rest = path.partition(".choices[]")
    if choices and rest.count(".") >= _MOST_LEVELS:
        return
    yield from walk(schema, path)
    if isinstance(schema.get("items"), dict):
        yield from _descend(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _descend(schema["additionalProperties"], f"{path}.*")


def _describe(schema: Schema) -> str:
    kind = schema.get("type", "any value")
    if kind == "array":
        kind = f"list of {_describe(schema.get('items', {}))}"
    elif isinstance(schema.get("additionalProperties"), dict):
        kind = "mapping"
    if "enum" in schema:
        kind = " or ".join(f"`{value}`" for value in schema["enum"])
    if "minimum" in schema or "maximum" in schema:
        kind += f", {_bounds(schema)}"
    if "maxLength" in schema:
        kind += f", at most {schema['maxLength']} characters"
    return str(kind)


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    parts = [] if least is None else [f"at least {least:,}"]
    parts += [] if most is None else [f"at most {most:,}"]
    return ", ".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
