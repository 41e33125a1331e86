"""What a forge and git are told runs the checks of the Makefile, and nothing else."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from ruamel.yaml import YAML

from docs.generate.places import ROOT
from tests.unit.docs.pages import list_files


def load(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


def test_hooks_are_the_checks_before_a_commit() -> None:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = repository["hooks"]
    assert [hook["entry"] for hook in hooks] == ["make lint", "make type", "make imports"]
    assert {hook["language"] for hook in hooks} == {"system"}


def test_the_workflow_calls_what_the_gate_calls() -> None:
    steps = load(".github/workflows/ci.yml")["jobs"]["run"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


def test_forms_are_complete() -> None:
    forms = [name for name in list_files() if name.startswith(".github/ISSUE_TEMPLATE/")]
    for form in (load(name) for name in forms if not name.endswith("config.yml")):
        assert form["name"]
        assert form["description"]
        ids = [item["id"] for item in form["body"]]
        assert len(set(ids)) == len(ids) > 1


def test_the_citation_is_of_this_version() -> None:
    cited = load("CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["preferred-citation"]["title"] in (ROOT / "README.md").read_text()


def test_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in ("CONTRIBUTING.md", "README.md", "docs/releasing.md", "docs/benchmarks.md"):
        named = set(re.findall(r"`make ([a-z0-9-]+)`", (ROOT / name).read_text()))
        assert named <= targets, name
