"""Studies of two namespaces share a store and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.integration.runs import Place

SHORT = {"lr": [0.1, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [4]}}]}


def study_in(place: Place, namespace: str | None, space: dict[str, Any], **spec: Any) -> Path:
    """A study of the one name ``study``, in a file of its own."""
    path = place.study("study", space, **spec)
    document = json.loads(path.read_text())
    if namespace is not None:
        document["metadata"]["namespace"] = namespace
    named = path.with_name(f"{namespace}.yaml")
    named.write_text(json.dumps(document))
    return named


def test_two_studies_of_one_name_in_two_namespaces_never_mix(place: Place) -> None:
    ours, theirs = study_in(place, None, SHORT), study_in(place, "team-b", {"lr": [0.1, 0.2, 0.3]})
    first = place.run(ours)
    second = place.run(theirs)  # neither refused as an edit, nor taken for known
    assert (first["stepsTrained"], second["stepsTrained"]) == (20, 36)
    assert len(place.trained()) == 20 + 36
    plans = {plan.plan.partition("/")[0]: plan for plan in place.plans()}
    assert set(plans) == {"default", "team-b"}
    assert [len(plans[name].read_decisions("study")) for name in ("default", "team-b")] == [2, 3]
    assert place.run(ours)["trials"] == first["trials"]
    assert place.run(theirs)["trials"] == second["trials"]
    assert len(place.trained()) == 20 + 36


def test_where_a_name_alone_is_given_the_namespace_tells_them_apart(place: Place) -> None:
    ours, theirs = study_in(place, "team-a", SHORT), study_in(place, "team-b", {"lr": [0.2, 0.3]})
    bests = {"team-a": place.run(ours)["best"], "team-b": place.run(theirs)["best"]}
    histories = set()
    for namespace, best in bests.items():
        file = place.folder / f"{namespace}.pt"
        export = ("export", "study", "--best", "-n", namespace, "--file", file)
        assert place.call(*export, "-o", "json").json()["trial"] == best["trial"]
        histories.add(torch.load(file, weights_only=True)["history"])
    assert len(histories) == 2
    (error,) = place.call("export", "study", "--best", status=1).errors
    assert error.endswith("has no study 'study' in default: there is one in team-a, team-b: say -n")
    (error,) = place.call("export", ours, "--best", "-n", "team-b", status=2).errors
    assert error == "metadata.namespace: is team-a, not team-b: omit -n"


def test_one_run_is_of_one_namespace(place: Place) -> None:
    ours, theirs = study_in(place, None, SHORT), study_in(place, "team-b", SHORT)
    assert place.call("run", ours, theirs, status=2).errors == [
        "metadata.namespace: studies study and study cannot share a plan: they are of the"
        " namespaces default and team-b; run them one after the other"
    ]
    assert place.trained() == []
