"""Owners of checkpoints, compared with a check of every step of every trial."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.gc import read_inventory
from hippo.protocol.decisions import Decision
from hippo.store import DirectoryBlobs
from tests.unit.gc.stored import STEPS, StoredPlan


def multistep(*milestones: int) -> dict[str, Any]:
    return {"lr": {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": list(milestones)}}}


TRIALS = [{"lr": 0.1}, {"lr": 0.2}, multistep(3), multistep(3, 7), multistep(5), multistep(9)]
trials = st.lists(st.sampled_from(TRIALS), unique_by=str, max_size=4)
steps = st.integers(1, STEPS)


@pytest.mark.slow
@settings(max_examples=20)
@given(
    ours=trials,
    theirs=trials,
    stored=st.lists(st.tuples(st.sampled_from(TRIALS), steps), max_size=8),
    is_merged=st.booleans(),
)
def test_a_study_owns_what_lies_on_the_way_of_its_trials(
    ours: list[Any], theirs: list[Any], stored: list[tuple[Any, int]], is_merged: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plan = StoredPlan(DirectoryBlobs(folder), **({} if is_merged else {"merge": False}))
        asked = {"ours": ours, "theirs": theirs}
        for name, written in asked.items():
            plan.add_study(name, *written, retain="all")
        for written, step in stored:
            plan.add_checkpoint(written, step, apart="" if is_merged else "ours-0")
        inventory = read_inventory(plan.store)
        for key, manifest in plan.store.load().manifests.items():
            expected = {
                name
                for name, written in asked.items()
                for index, trial in enumerate(written)
                if plan.key(trial, manifest.step, "" if is_merged else f"{name}-{index}") == key
            }
            assert {intent.study for intent in inventory.holders(key, 1e9)} == expected
            assert (key in inventory.places) == bool(expected)


def test_a_replicate_goes_its_own_way() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plan = StoredPlan(DirectoryBlobs(folder))
        plan.add_study("s", TRIALS[0], retain="all")
        replicate = Decision(
            index=1,
            kind="suggest",
            trial=1,
            steps=STEPS,
            hyperparameters=TRIALS[0],
            parent=0,
            seed=7,
            reason="under another seed",
        )
        plan.store.write_decision("s", replicate)
        ours = plan.add_checkpoint(TRIALS[0], 6, apart="seed 7")
        foreign = plan.add_checkpoint(TRIALS[0], 6, apart="seed 8")
        inventory = read_inventory(plan.store)
        assert inventory.holders(ours, 1e9)
        assert not inventory.holders(foreign, 1e9)


def test_a_trial_that_was_never_to_go_so_far_does_not_own_what_is_farther() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plan = StoredPlan(DirectoryBlobs(folder))
        plan.add_study("halving", retain="all")
        for index, (kind, reached) in enumerate([("suggest", 3), ("promote", 6), ("stop", 6)]):
            decision = {"index": index, "kind": kind, "trial": 0, "steps": reached, "reason": "so"}
            if kind == "suggest":
                decision["hyperparameters"] = TRIALS[0]
            plan.store.write_decision("halving", Decision.model_validate(decision))
        near, far = plan.add_checkpoint(TRIALS[0], 6), plan.add_checkpoint(TRIALS[0], 7)
        inventory = read_inventory(plan.store)
        assert inventory.holders(near, 1e9)
        assert not inventory.holders(far, 1e9)
