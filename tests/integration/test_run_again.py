"""Studies that have ended go on: with a raised limit, after a mend, and with everything reused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hippo.client import Client
from tests.integration.runs import DEADLINE, Place, wait_until
from tests.integration.test_run_exact import check_against_oracle

SLOW: dict[str, Any] = {
    "steps": 150,
    "trainer": {"entrypoint": "walk:Walk", "config": {"sleep": 0.02}},
}
NEEDY = "import beyond\nfrom walk import Walk\n\n\nclass Needy(Walk):\n    pass\n"


def test_a_spent_budget_saves_what_runs_and_a_raised_one_goes_on(place: Place) -> None:
    file = place.study("study", {"lr": [0.1, 0.2]}, **SLOW, budget={"wallTime": "1s"})
    done = place.call("run", file, "--workers", "2", status=1)
    end = (
        "its budget of 1s of wall time is spent; raise spec.budget.wallTime above 1s and run again"
    )
    assert end in " ".join(done.stdout.split())
    assert 0 < place.check_nothing_twice() < 2 * 150
    assert len(place.manifests()) == 2
    place.call("store", "gc", place.store_folder)
    assert len(place.manifests()) == 2, "it may go on"
    assert "all on its way: it may go on" in " ".join(
        place.call("store", "ls", place.store_folder).stdout.split()
    )
    again = place.call("run", file, "--workers", "2", status=1)
    assert f"study: it had ended: {end}" in again.stderr
    assert len(place.manifests()) == 2
    place.edit("study", budget={"wallTime": "10m"})
    raised = place.call("run", file, "--workers", "2")
    assert "study: it goes on, with 2 trials that its end had stopped" in raised.stderr
    assert place.check_nothing_twice() == 2 * 150
    check_against_oracle(place, place.run(file)["trials"], with_states=False, horizon=150)
    ended = place.call("run", file)
    assert (
        "study: it had ended: all trials have ended; all 2 points of its space were drawn; to train"
        " on, give it another name" in ended.stderr
    )


def test_a_package_that_was_missing_is_installed_and_failed_trials_are_tried_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "needy.py").write_text(NEEDY)
    trainer = {"entrypoint": "needy:Needy"}
    file = place.study("study", {"lr": [0.1, 0.2], "momentum": [0.5, 0.6]}, trainer=trainer)
    done = place.call("run", file, status=1)
    assert "No module named 'beyond'" in done.stderr
    assert "mend it and run again with --retry-failed" in done.stderr
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "beyond.py").touch()
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{packages}:{before}" if before else str(packages))
    again = place.call("run", file, status=1)
    assert "study: it had ended: no trial succeeded: needy:Needy: " in again.stderr
    assert place.trained() == []
    retried = place.call("run", file, "--retry-failed")
    assert "study: it goes on, with 4 trials that had failed" in retried.stderr
    assert place.check_nothing_twice() == 4 * 12
    check_against_oracle(place, place.run(file)["trials"], with_states=False)


def test_a_metric_that_was_misspelt_is_mended_and_nothing_is_trained_again(place: Place) -> None:
    objective = {"metric": "scroe", "goal": "maximize"}
    file = place.study("study", {"lr": [0.1, 0.2]}, objective=objective)
    done = place.call("run", file, status=1)
    told = "metric 'scroe' is not among those that evaluate() returned (noise, score); mend"
    assert f"{told} spec.objective.metric and run again" in done.stderr
    place.edit("study", objective={**objective, "metric": "score"})
    mended = place.call("run", file)
    assert "it goes on, with 2 trials that had failed" in mended.stderr
    assert place.check_nothing_twice() == 2 * 12
    check_against_oracle(place, place.run(file)["trials"], with_states=False)
    place.edit("study", objective={**objective, "metric": "noise"})
    (line,) = place.call("run", file, status=2).errors
    assert line == (
        "study: spec.objective.metric: may not change once results have it (it was 'score'); make"
        " another study instead: it reuses all of them"
    )


def test_a_metric_is_mended_also_in_a_study_that_was_stopped_before_its_end(place: Place) -> None:
    objective = {"metric": "scroe", "goal": "maximize"}
    space = {"lr": [0.1, 0.2, 0.3, 0.4, 0.5]}
    file = place.study("study", space, objective=objective, maxFailedTrials=9, maxTrials=2)
    place.call("run", file, status=1)
    place.edit("study", objective={**objective, "metric": "score"}, maxTrials=5)
    result = place.run(file)
    assert [trial["phase"] for trial in result["trials"]] == ["Completed"] * 5
    assert place.check_nothing_twice() == 5 * 12


def test_more_trials_may_be_asked_for_after_the_end(place: Place) -> None:
    file = place.study("study", {"lr": [0.1, 0.2, 0.3]}, maxTrials=1)
    place.run(file)
    told = place.call("run", file).stderr
    assert "all trials have ended; raise spec.maxTrials above 1 and run again" in told
    place.edit("study", maxTrials=3)
    result = place.run(file)
    assert [trial["phase"] for trial in result["trials"]] == ["Completed"] * 3
    assert place.check_nothing_twice() == 3 * 12
    check_against_oracle(place, result["trials"], with_states=False)


def test_a_program_finds_its_trials_going_on_after_a_raised_budget(place: Place) -> None:
    spec: dict[str, Any] = {**SLOW, "algorithm": {"name": "external"}}
    file = place.study("own", {"lr": [0.1]}, **spec, budget={"wallTime": "2s"})
    process = place.start("run", file, "--workers", "1")
    client = Client.open(str(place.store_folder), str(file))
    ticket = client.submit({"lr": 0.1}, steps=150)
    view = client.wait(ticket, timeout=DEADLINE)
    assert (view.phase, view.metrics) == ("Stopped", {})
    place.finish(process, status=1)
    place.edit("own", budget=None)
    process = place.start("run", file, "--workers", "1")
    wait_until(lambda: "Pending" in _phases(place, file), "the study goes on")
    client = Client.open(str(place.store_folder), str(file))
    assert set(client.wait(ticket, timeout=DEADLINE).metrics) == {150}
    client.close()
    place.finish(process)
    assert place.check_nothing_twice() == 150


def _phases(place: Place, file: Path) -> list[str]:
    views = Client.open(str(place.store_folder), str(file)).results()
    return [view.phase for view in views.values()]


def test_a_test_metric_that_was_misspelt_is_told_and_mended_after_the_end(place: Place) -> None:
    objective = {"metric": "score", "goal": "maximize", "testMetric": "noies"}
    file = place.study("study", {"lr": [0.1, 0.2]}, objective=objective)
    done = place.call("run", file)
    assert (
        "study: metric 'noies' (testMetric) is not among those that evaluate() returned (noise,"
        " score); mend spec.objective.testMetric and run again" in done.stderr
    )
    place.edit("study", objective={**objective, "testMetric": "noise"})
    result = place.run(file)
    assert set(result["best"]["metrics"]) == {"score", "noise"}
    assert [set(trial["metrics"]) for trial in result["trials"] if trial != result["best"]] == [
        {"score"}
    ]
    assert place.check_nothing_twice() == 2 * 12
