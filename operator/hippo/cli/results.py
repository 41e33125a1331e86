"""``hippo results``: lists all trials of a study from its store."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from hippo.cli.arguments import NamedNamespaceOption, StoreOption, StudyArgument, find_named
from hippo.cli.render.numbers import describe_values, number
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.rows import Column, Listing
from hippo.cli.render.tables import leading_values, print_best, print_standing, select_own
from hippo.cli.sorting import sort_trials
from hippo.model.words import counted
from hippo.views.results import build_result
from hippo.views.stored_study import Replayed, identity_to_json, replay


def results(
    study: StudyArgument,
    store: StoreOption = None,
    namespace: NamedNamespaceOption = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help="Sort by trial, best, steps (most first), phase, or a metric or hyper-parameter"
            " (ascending).",
        ),
    ] = "trial",
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the order.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all trials of a study: phases, metrics, hyper-parameters, and reasons."""
    replayed = replay(find_named(study, store, namespace))
    document = results_to_json(replayed)
    document["trials"] = sort_trials(document["trials"], replayed.run, sort, reverse=reverse)
    if output is Output.JSON:
        print_json(document)
    else:
        print_results(open_console(), replayed, document)


def results_to_json(replayed: Replayed) -> dict[str, Any]:
    """Return the document of ``hippo results -o json``, a part of that of ``hippo run``."""
    result = build_result(replayed.engine, makespan_seconds=0.0, workers=0)
    (entry,) = result["studies"]
    objective = replayed.study.spec.objective
    return {
        **identity_to_json(replayed),
        "message": replayed.run.message,
        "objective": {"metric": objective.metric, "goal": objective.goal},
        "trials": result["trials"],
        "best": entry["best"],
        "replicates": entry["replicates"],
        **{name: result[name] for name in ("stepsRequested", "stepsUnique", "stepsTrained")},
        "mergeRate": result["mergeRate"],
        "workerSeconds": entry["workerSeconds"],
        "workerSecondsAlone": entry["workerSecondsAlone"],
    }


def print_results(console: Console, replayed: Replayed, document: dict[str, Any]) -> None:
    """Print every trial in the order of the document, then the best, and the study's state."""
    objective, best = replayed.study.spec.objective, document["best"]
    metrics = _metrics_shown(replayed, document["trials"])
    listing = Listing(
        [
            Column("trial"),
            Column("phase"),
            Column("steps"),
            *(Column(name, is_number=True) for name in metrics),
            Column("hyper-parameters", is_folded=True),
            Column("why", is_folded=True),
        ]
    )
    own = select_own(document["trials"], replayed.study)
    leading = leading_values(own, objective)
    for row in document["trials"]:
        listing.add(
            row["trial"],
            row["phase"],
            str(row["steps"]),
            number(row["metrics"].get(objective.metric), leading),
            *(number(row["metrics"].get(name)) for name in metrics[1:]),
            describe_values(row["hyperparameters"]),
            row["reason"],
            style="bold" if best is not None and row["trial"] == best["trial"] else "",
        )
    console.print(listing)
    if best is not None:
        print_best(console, document, own, objective)
    print_standing(console, replayed)
    console.print(
        f"{counted(len(document['trials']), 'trial')}:"
        f" {counted(document['stepsRequested'], 'step')} requested,"
        f" {document['stepsTrained']} trained; merge rate {document['mergeRate']:.2f}",
    )


def _metrics_shown(replayed: Replayed, rows: list[dict[str, Any]]) -> list[str]:
    """Return the names of metrics: the objective, then the rest."""
    first = replayed.study.spec.objective.metric
    others = {name for row in rows for name in row["metrics"]} - {first}
    return [first, *sorted(others)]
