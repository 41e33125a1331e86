"""The preview of ``hippo plan``, without any training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hippo.cli.render import tables
from hippo.cli.render.stage_tree import MAX_LINES, draw_stage_tree
from hippo.model import InvalidSpec, load_studies
from hippo.views import plan_preview
from tests.world import World, build_study

EXAMPLES = Path(__file__).parents[3] / "examples"
DIGITS = EXAMPLES / "digits"


def text_of(found: plan_preview.PlanAnalysis) -> str:
    stream = io.StringIO()
    tables.print_plan(Console(file=stream, width=200), found)
    return stream.getvalue()


def multistep(*milestones: int) -> dict[str, Any]:
    return {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": list(milestones)}}


def test_totals_of_a_grid() -> None:
    found = plan_preview.analyse([build_study(space={"lr": {"choices": [0.1, multistep(6)]}})])
    document = plan_preview.to_json(found)
    assert document["trials"] == 2
    assert document["stepsRequested"] == 24
    assert document["stepsUnique"] == 18
    assert document["mergeRate"] == 24 / 18
    assert document["criticalPathSteps"] == 12
    assert [(s["start"], s["end"]) for s in document["stages"]] == [(0, 6), (6, 12), (6, 12)]
    assert document["stages"][1]["parent"] == document["stages"][0]["key"]
    assert document["stages"][2]["hyperparameters"] == {"lr": 0.01}


def test_what_is_planned_is_what_is_trained() -> None:
    space = {"lr": {"choices": [0.1, multistep(6), multistep(9)]}, "m": {"choices": [0.8, 0.9]}}
    study = build_study(space=space)
    world = World([study], workers=3).run()
    assert plan_preview.analyse([study]).steps_unique == sum(world.trained.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        str(path.relative_to(EXAMPLES))
        for path in sorted(EXAMPLES.glob("*/*.yaml"))
        if path.stem != "external"  # there is no plan before its trials are made
    ],
)
def test_the_examples_are_drawn_in_a_screenful(name: str) -> None:
    found = plan_preview.analyse(load_studies([EXAMPLES / name]))
    stream = io.StringIO()
    Console(file=stream, width=200).print(draw_stage_tree(found.stages))
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 2 * MAX_LINES
    assert found.merge_rate > 1.2


def test_studies_together_need_fewer_steps_than_apart() -> None:
    studies = load_studies([DIGITS / "team-a.yaml", DIGITS / "team-b.yaml"])
    together = plan_preview.analyse(studies)
    apart = [plan_preview.analyse([study]) for study in studies]
    assert together.steps_unique < sum(one.steps_unique for one in apart)
    assert together.steps_requested == sum(one.steps_requested for one in apart)


def test_what_limits_the_merge_rate_is_named_with_a_remedy() -> None:
    space = {
        "lr": {"choices": [0.1, 0.2, 0.3, multistep(6)]},
        "m": {"choices": [0.9, {"piecewise": [[0, 0.9], [11, 0.8]]}]},
    }
    found = plan_preview.analyse([build_study(space=space)])
    first = found.limits[0]
    assert first.name == "lr"
    assert first.alone_at_start == 2
    assert "choices have diverged by step 6, 2 of them at step 0" in text_of(found)
    assert first.merge_rate_without == 8 * 12 / 13


def test_a_continuous_domain_is_told_to_be_quantized() -> None:
    space = {"lr": {"uniform": {"low": 0.01, "high": 0.1}}, "m": {"choices": [0.8, 0.9]}}
    study = build_study(space=space, algorithm={"name": "random"}, maxTrials=20)
    found = plan_preview.analyse([study])
    assert found.merge_rate == 1.0
    assert "draws its own lr: quantize its domain" in text_of(found)


def test_rungs_tell_how_many_prefixes_they_compare() -> None:
    space = {"lr": {"choices": [multistep(step) for step in (4, 5, 8, 9, 10, 11)]}}
    study = build_study(space=space, algorithm={"name": "sha", "eta": 2, "minSteps": 6})
    found = plan_preview.analyse([study])
    assert [(r.step, r.trials, r.distinct_prefixes) for r in found.rungs] == [(6, 6, 3), (12, 3, 3)]
    assert "at step 6 6 trials are compared, 3 of them differ" in text_of(found)
    study = build_study(space=space, algorithm={"name": "sha", "eta": 2, "minSteps": 3})
    assert "the rung comes before the first fork, raise minSteps" in text_of(
        plan_preview.analyse([study])
    )


def test_a_rung_that_comes_too_early_names_the_setting_to_raise() -> None:
    space = {"lr": {"choices": [multistep(step) for step in (6, 7, 8, 9)]}}
    pbt = {"name": "pbt", "population": 4, "interval": 4}
    found = plan_preview.analyse([build_study(space=space, algorithm=pbt)])
    assert "the rung comes before the first fork, raise interval" in text_of(found)
    median = {"name": "median", "every": 4}
    assert plan_preview.analyse([build_study(space=space, algorithm=median)]).rungs == []


def test_choices_that_share_nothing_are_told_plainly() -> None:
    space = {"lr": {"choices": [0.1, 0.2]}, "m": {"choices": [0.8, multistep(5)]}}
    found = plan_preview.analyse([build_study(space=space)])
    assert "All of its 2 choices differ from step 0 on: use fewer values" in text_of(found)


def test_a_rung_counts_only_those_who_stop_there() -> None:
    space = {"lr": {"uniform": {"low": 0.01, "high": 0.1}}}
    study = build_study(space=space, algorithm={"name": "hyperband", "eta": 2, "minSteps": 3})
    found = plan_preview.analyse([study])  # brackets 4, 2, 1 / 3, 1 / 3
    assert [(rung.step, rung.trials) for rung in found.rungs] == [(3, 4), (6, 5), (12, 5)]
    study = build_study(space=space, algorithm={"name": "pbt", "population": 4, "interval": 4})
    found = plan_preview.analyse([study])
    assert [(rung.step, rung.trials) for rung in found.rungs] == [(4, 4), (8, 4), (12, 4)]
    assert (len(found.trials), found.steps_unique) == (6, 4 * 12)


def test_an_external_study_cannot_be_planned() -> None:
    study = build_study(space={"lr": {"choices": [1]}}, algorithm={"name": "external"})
    with pytest.raises(InvalidSpec, match=r"spec\.algorithm\.name: s is external"):
        plan_preview.analyse([study])


def test_more_workers_never_take_longer() -> None:
    found = plan_preview.analyse(load_studies([DIGITS / "grid.yaml"]))
    bounds = [bound for _, _, bound in found.by_workers]
    assert bounds == sorted(bounds, reverse=True)
    assert all(alone >= bound for _, alone, bound in found.by_workers)
    assert found.by_workers[0] == (1, found.steps_requested, found.steps_unique)
