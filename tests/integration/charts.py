"""Helm, as the tests of the chart use it: without a cluster."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.builds import GoRecipe, Impossible, skip_or_fail
from tests.cluster import programs

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "hippo"
DASHBOARD = CHART / "files" / "dashboard.json"
VALUE_SETS = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*.yaml"))
KUBERNETES = "1.36.1"

Document = dict[str, Any]


@functools.cache
def find_program(name: str, recipe: GoRecipe) -> str:
    """Its path, built if need be. Skips the test where it cannot be."""
    found = programs.find(name)
    if found is not None:
        return str(found)
    try:
        return str(recipe.build() / name)
    except Impossible as reason:
        skip_or_fail(reason)


def run_helm(*arguments: str | Path, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Whatever it says, and nothing from the user's own settings."""
    helm = find_program("helm", programs.HELM)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home or "/nonexistent")}
    return subprocess.run(
        [helm, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment
    )


def template(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What a release named hippo, in the namespace hippo-system, would be."""
    release = ("template", "hippo", CHART, "--namespace", "hippo-system")
    return run_helm(*release, "--kube-version", KUBERNETES, *arguments)


@functools.cache
def render(value_set: str, *arguments: str) -> list[Document]:
    """The objects for one of the chart's own sets of values."""
    done = template("--values", CHART / "ci" / f"{value_set}-values.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    return read_documents(done.stdout)


def read_documents(text: str) -> list[Document]:
    return [document for document in YAML(typ="safe").load_all(text) if document is not None]


def find(objects: list[Document], kind: str, name: str, namespace: str | None = None) -> Document:
    """The one of this kind and name."""
    found = [
        document
        for document in objects
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
        and namespace in (None, document["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def kinds(objects: list[Document]) -> list[str]:
    return [document["kind"] for document in objects]


def list_queries() -> Iterator[str]:
    """Of all panels of the dashboard, with values for its variables."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in _VARIABLES.items():
                query = query.replace(name, value)
            yield query


_VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*"}
