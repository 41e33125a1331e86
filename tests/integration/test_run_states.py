"""States as practitioners have them: through the stage tree they give what they give alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.runs import Place, as_hex

CASES = ["channels last", "half", "versioned", "line", "column", "fortran", "shared", "casting"]
SPACE = {
    "case": CASES,
    "lr": [
        0.0123,
        {"piecewise": [[0, 0.0123], [2, 0.0077]]},
        {"piecewise": [[0, 0.0123], [3, 0.02]]},
    ],
}


def test_every_kind_of_state_is_restored_or_its_loss_is_named(place: Place) -> None:
    study = place.study(
        "study",
        SPACE,
        steps=5,
        retries=1,
        objective={"metric": "loss", "goal": "minimize"},
        trainer={"entrypoint": "states:States"},
    )
    merged = place.call("run", study, "--workers", "2", "-o", "json", status=None).json()
    apart = place.folder / "apart"
    alone = place.call("run", study, "--no-merge", "--store", apart, "-o", "json").json()
    assert [trial["phase"] for trial in alone["trials"]] == ["Completed"] * 24
    assert merged["stepsTrained"] < alone["stepsTrained"] == 24 * 5
    failed = []
    for one, other in zip(merged["trials"], alone["trials"], strict=True):
        assert one["hyperparameters"] == other["hyperparameters"]
        if one["phase"] == "Failed":
            failed.append(one)
        else:
            assert as_hex(one["metrics"]) == as_hex(other["metrics"]), one["hyperparameters"]
    check_named(failed)


def check_named(failed: list[dict[str, Any]]) -> None:
    """A trainer that restores something else fails at once, by the name of what differs."""
    assert len(failed) == 2, failed
    for trial in failed:
        assert trial["hyperparameters"]["case"] == "casting"
        assert "load_state_dict() has not restored" in trial["reason"]
        assert "column has other values" in trial["reason"]


def test_sets_of_texts_have_one_order_in_all_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = place.study("study", {"lr": [0.5]}, steps=4, trainer={"entrypoint": "texts:Texts"})
    found = set()
    for seed in ("1", "2", "random"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        store = place.folder / f"store-{seed}"
        (trial,) = place.call("run", study, "--store", store, "-o", "json").json()["trials"]
        found.add(trial["metrics"]["score"].hex())
    assert len(found) == 1


def test_what_is_drawn_when_modules_are_imported_is_the_same_in_all_runs(place: Place) -> None:
    space = {"lr": [0.5, {"piecewise": [[0, 0.5], [2, 0.7]]}]}
    study = place.study("study", space, steps=4, trainer={"entrypoint": "drawn:Drawn"})
    found = []
    for store, settings in (("merged", ()), ("alone", ("--no-merge",))):
        command = ("run", study, "--store", place.folder / store, "-o", "json", *settings)
        trials = place.call(*command).json()["trials"]
        found.append([trial["metrics"]["score"].hex() for trial in trials])
    assert found[0] == found[1]
