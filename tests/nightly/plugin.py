"""For pytest: more examples for tests of Hypothesis, and what tests have covered, as JSON.

Loaded by ``python -m tests.nightly`` alone. A test tells what it has covered, name by name, by
``record_property``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

_LONGER = int(os.environ.get("HIPPO_NIGHTLY_LONGER", "1"))
_PASSING = re.compile(r"(\d+) passing")


class Figures:
    """By test: its outcome and seconds, its examples, and what it tells of itself."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[Any]:
        report: pytest.TestReport = yield
        found = self.tests.setdefault(item.nodeid, {"outcome": "passed", "seconds": 0.0})
        found["seconds"] += report.duration
        if report.outcome != "passed":
            found["outcome"] = report.outcome
        if report.when == "call":
            found |= dict(report.user_properties)
        if statistics := getattr(item, "hypothesis_statistics", ""):
            found["examples"] = sum(map(int, _PASSING.findall(statistics)))
        return report

    def pytest_sessionfinish(self) -> None:
        self.file.write_text(json.dumps(self.tests, indent=1) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", metavar="FILE", help="where to write what tests have covered")


def pytest_configure(config: pytest.Config) -> None:
    if (file := config.getoption("--figures")) is not None:
        config.pluginmanager.register(Figures(Path(file)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever their own settings say, tests take so many times more examples."""
    seen: set[int] = set()
    for item in items:
        test: Any = getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None))
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is None or id(test) in seen:
            continue
        seen.add(id(test))
        test._hypothesis_internal_use_settings = settings(
            own,
            max_examples=own.max_examples * _LONGER,
            suppress_health_check={*own.suppress_health_check, HealthCheck.too_slow},
        )
