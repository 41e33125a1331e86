"""The chart's alerts and its dashboard: sound queries, over metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from hippo.kube.observability.metrics import Metrics
from tests.builds import BUILD_SECONDS
from tests.cluster import programs
from tests.integration.charts import CHART, DASHBOARD, ROOT, find_program, list_queries

pytestmark = pytest.mark.timeout(BUILD_SECONDS)

ALERTS = CHART / "files" / "alerts.yaml"


def test_alerts_fire_when_somebody_has_to_look_and_only_then() -> None:
    _promtool("check", "rules", "--lint-fatal", ALERTS)
    _promtool("test", "rules", ROOT / "tests" / "charts" / "alerts-test.yaml")
    tested = YAML(typ="safe").load(ROOT / "tests" / "charts" / "alerts-test.yaml")["tests"]
    names = {
        case["alertname"]
        for test in tested
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert names == {rule["alert"] for rule in _alerts()}
    assert len(names) == 4


def test_queries_of_the_dashboard_can_be_evaluated(tmp_path: Path) -> None:
    rules = [{"record": f"panel_{i}", "expr": query} for i, query in enumerate(list_queries())]
    assert len(rules) > 30
    path = tmp_path / "rules.yaml"
    YAML(typ="safe").dump({"groups": [{"name": "dashboard", "rules": rules}]}, path)
    _promtool("check", "rules", path)


def test_queries_ask_for_metrics_that_exist() -> None:
    expressions = [*list_queries(), *(rule["expr"] for rule in _alerts())]
    asked = {name for expression in expressions for name in re.findall(r"\bhippo_\w+", expression)}
    assert asked - set(_exposed()) == set()
    assert len(asked) > 25


def test_alerts_need_no_series_of_single_studies() -> None:
    expressions = [rule["expr"] for rule in _alerts()]
    asked = {name for expression in expressions for name in re.findall(r"\bhippo_\w+", expression)}
    assert asked - set(_exposed(per_study=False)) == set()


def test_panels_say_what_they_need() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    of_studies = [
        panel
        for panel in panels
        if any("hippo_study_" in target["expr"] for target in panel.get("targets", ()))
    ]
    assert len(of_studies) == 4
    assert all("metrics.perStudy" in panel["description"] for panel in of_studies)


def test_panels_lie_beside_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def _promtool(*arguments: str | Path) -> None:
    promtool = find_program("promtool", programs.PROMETHEUS)
    done = subprocess.run(
        [promtool, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _alerts() -> list[dict[str, Any]]:
    return [rule for group in YAML(typ="safe").load(ALERTS)["groups"] for rule in group["rules"]]


def _families(per_study: bool) -> Iterator[tuple[str, str]]:
    """Of the operator's own metrics: names as they are exposed, and types."""
    registry = CollectorRegistry()
    Metrics(registry, per_study=per_study)
    for family in registry.collect():
        yield family.name + ("_total" if family.type == "counter" else ""), family.type


def _exposed(*, per_study: bool = True) -> Iterator[str]:
    """Names of all series."""
    for name, kind in _families(per_study):
        suffixes = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        yield from (name + suffix for suffix in suffixes)
