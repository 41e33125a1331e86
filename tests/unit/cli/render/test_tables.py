"""What a person reads once a run has ended."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from hippo.cli.render.tables import print_result
from tests.world import build_study

STUDY = build_study(space={"lr": {"choices": [0.1, 0.2, 0.3]}})


def trial(index: int, **changed: Any) -> dict[str, Any]:
    return {
        "trial": f"s-{index}",
        "study": "s",
        "hyperparameters": {"lr": 0.1},
        "steps": 12,
        "phase": "Completed",
        "metrics": {"score": 1.0},
        "reason": "",
        "parent": None,
        "seed": 0,
        "exact": True,
        **changed,
    }


def text_of(*trials: dict[str, Any], **changed: Any) -> str:
    best = next((one for one in trials if one["metrics"]), None)
    study = {"study": "s", "phase": "Failed", "message": "why", "best": best, "replicates": []}
    result = {
        "trials": list(trials),
        "studies": [study],
        "stepsRequested": 36,
        "stepsUnique": 24,
        "stepsTrained": 24,
        "mergeRate": 1.5,
        "makespanSeconds": 12.9,
        "workerSeconds": 90.0,
        "workerSecondsEarlier": 0.0,
        "workers": 2,
        "trialBasedEstimate": {"workerSeconds": 120.0, "makespanSeconds": 60.0},
        **changed,
    }
    stream = io.StringIO()
    print_result(Console(file=stream, width=200), result, [STUDY])
    return stream.getvalue()


def test_the_time_tells_this_run_from_earlier_ones() -> None:
    assert "time: 12.9 s on 2 workers, using 1 min 30 s of worker time; trial by" in text_of(
        trial(0)
    )
    assert "using 30.0 s of worker time, and 1 min 00 s in earlier runs; trial by" in text_of(
        trial(0), workerSecondsEarlier=60.0
    )
    assert (
        "time: 12.9 s, in which nothing was trained; earlier runs used 1 min 30 s of worker time;"
        in text_of(trial(0), workerSecondsEarlier=90.0)
    )


def test_trials_that_failed_alike_take_one_row() -> None:
    failed = {"phase": "Failed", "steps": 0, "metrics": {}}
    text = text_of(
        *(trial(index, **failed, reason="KeyError: 'x'") for index in range(30)),
        trial(30, **failed, reason="ValueError"),
        stepsRequested=0,
        stepsUnique=0,
        stepsTrained=52,
        trialBasedEstimate={"workerSeconds": 0.0, "makespanSeconds": 0.0},
    )
    assert text.count("KeyError: 'x'") == 1
    assert "KeyError: 'x' (and 29 other trials likewise)" in text
    assert "s-30" in text
    assert "steps trained: 52; no trial has a result\n" in text
    assert "trial by trial" not in text


def test_parents_are_shown_where_there_are_any() -> None:
    assert "from" not in text_of(trial(0), trial(1)).splitlines()[1]
    header, *rows = text_of(trial(0), trial(1, parent="s-0")).splitlines()[1:4]
    assert "from" in header
    assert any(row.split()[:2] == ["s-1", "s-0"] for row in rows)


def replicated(trial: str, mean: float) -> dict[str, Any]:
    spread = {"count": 2, "mean": mean, "standardDeviation": 0.001}
    return {"trial": trial, "replicates": ["s-3", "s-4"], "score": spread}


def test_a_winner_by_replicates_is_explained() -> None:
    rows = [
        trial(0, metrics={"aux": 1e-9, "score": 0.75}),
        trial(1, metrics={"score": 0.812345678}),
    ]
    again = trial(3, seed=1, metrics={"score": 0.9})
    study = {
        "study": "s",
        "phase": "Succeeded",
        "message": "",
        "best": rows[0],
        "replicates": [replicated("s-0", 0.74), replicated("s-1", 0.7)],
    }
    text = text_of(*rows, again, studies=[study])
    assert "best of s: s-0: score 0.75, aux 1e-09\n" in text
    assert (
        "  chosen by its mean score under other seeds, not by a single result: the best single"
        " score is 0.81235, of s-1\n" in text
    )
    assert "  s-0 again: score 0.74 ± 0.001 over 2 other seeds\n" in text
    study["best"] = rows[1]
    text = text_of(*rows, again, studies=[study])
    assert "under other seeds, not by a single result\n" in text
    study["replicates"] = []
    assert "other seeds" not in text_of(*rows, studies=[study])


def test_bests_that_differ_look_different() -> None:
    close = (0.956390001, 0.956390002, 1e-9)
    text = text_of(*(trial(index, metrics={"score": value}) for index, value in enumerate(close)))
    for value in ("0.956390001", "0.956390002", "1e-09"):
        assert value in text


def test_one_of_a_thing_is_singular() -> None:
    text = text_of(trial(0), stepsRequested=25, stepsUnique=24, stepsTrained=24, workers=1)
    assert "s: 1 trial\n" in text
    assert "(1 step was shared)" in text
    assert "on 1 worker, using" in text
