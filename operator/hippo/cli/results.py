"""``hippo results``, ``hippo tree`` and ``hippo logs``: of a study on this machine or in a cluster,
what ``kubectl`` cannot show. The first two read its store, where all of it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from hippo.cli import logs as worker_logs
from hippo.cli.arguments import find_named
from hippo.cli.render.numbers import describe_values, number
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.rows import Column, Listing
from hippo.cli.render.stage_tree import draw_stage_tree
from hippo.cli.render.tables import leading_values, print_best, select_own
from hippo.cli.sorting import sort_trials
from hippo.cli.store import NamedNamespaceOption
from hippo.model.words import counted
from hippo.plan import Stage
from hippo.views.results import build_result
from hippo.views.stored_study import Replayed, StageState, StoredTree, build_stored_tree, replay

MAX_TREE_LINES = 200

StudyArgument = Annotated[
    str,
    typer.Argument(help="A study's file (- is standard input) or name.", show_default=False),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="HIPPO_STORE",
        help="Folder or s3://bucket/prefix. Default: .hippo beside the study's file, or in the"
        " current folder.",
        show_default=False,
    ),
]


def results(
    study: StudyArgument,
    store: StoreOption = None,
    namespace: NamedNamespaceOption = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help="trial, best, steps (the most first), phase; or a metric or hyper-parameter,"
            " ascending.",
        ),
    ] = "trial",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all trials of a study: phases, metrics, hyper-parameters, and why they are so."""
    replayed = replay(find_named(study, store, namespace))
    document = results_to_json(replayed)
    document["trials"] = sort_trials(document["trials"], replayed.run, sort, reverse=reverse)
    if output is Output.JSON:
        print_json(document)
    else:
        print_results(open_console(), replayed, document)


def tree(
    study: StudyArgument,
    store: StoreOption = None,
    namespace: NamedNamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Draw a study's stage tree: what is stored, what is being trained, what is still to come."""
    replayed = replay(find_named(study, store, namespace))
    stored = build_stored_tree(replayed)
    if output is Output.JSON:
        print_json(tree_to_json(replayed, stored))
    else:
        print_tree(open_console(), replayed, stored)


def logs(
    study: StudyArgument,
    trial: Annotated[
        str | None,
        typer.Option(
            help="Only of workers that trained this trial (name or number), or what it shares.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as more is written.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option(min=0, help="Lines of each worker. Default: all.", show_default=False),
    ] = None,
    store: StoreOption = None,
    namespace: NamedNamespaceOption = None,
) -> None:
    """Show what the workers of a study wrote, the newest first: on this machine, or in pods."""
    worker_logs.show(study, trial=trial, follow=follow, tail=tail, store=store, namespace=namespace)


def register(app: typer.Typer) -> None:
    """Add the three commands."""
    for command in (results, tree, logs):
        app.command()(command)


# -- results ---------------------------------------------------------------------------------------


def results_to_json(replayed: Replayed) -> dict[str, Any]:
    """The document of ``hippo results -o json``: of ``hippo run``'s, what is no single run's."""
    result = build_result(replayed.engine, makespan_seconds=0.0, workers=0)
    (entry,) = result["studies"]
    objective = replayed.study.spec.objective
    return {
        **_identity(replayed),
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


def _identity(replayed: Replayed) -> dict[str, Any]:
    return {
        "study": replayed.study.name,
        "namespace": replayed.study.namespace,
        "plan": replayed.store.plan.partition("/")[2],
        "phase": replayed.phase,
        "isDeleted": replayed.is_deleted,
        "inUse": replayed.in_use,
    }


def print_results(console: Console, replayed: Replayed, document: dict[str, Any]) -> None:
    """Every trial, in the order of the document; then the best, and how the study stands."""
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
    _print_standing(console, replayed)
    console.print(
        f"{counted(len(document['trials']), 'trial')}:"
        f" {counted(document['stepsRequested'], 'step')} requested,"
        f" {document['stepsTrained']} trained; merge rate {document['mergeRate']:.2f}",
    )


def _metrics_shown(replayed: Replayed, rows: list[dict[str, Any]]) -> list[str]:
    """The objective, then the others."""
    first = replayed.study.spec.objective.metric
    others = {name for row in rows for name in row["metrics"]} - {first}
    return [first, *sorted(others)]


def _print_standing(console: Console, replayed: Replayed) -> None:
    text = Text.assemble((replayed.study.name, "bold"), f": {replayed.phase}")
    if replayed.run.message:
        text.append(f": {replayed.run.message}")
    if replayed.is_deleted:
        text.append(", deleted")
    elif not replayed.run.state.is_final:
        text.append(f", {replayed.in_use or 'but nobody is at work on it now'}")
    console.print(text, soft_wrap=True)
    for problem in replayed.records.problems:
        console.print(Text(f"damaged: {problem}", style="red"), soft_wrap=True)


# -- the tree --------------------------------------------------------------------------------------

_STYLES = {
    StageState.DONE: "green",
    StageState.RUNNING: "yellow",
    StageState.PENDING: "dim",
    StageState.FAILED: "red",
}


def print_tree(console: Console, replayed: Replayed, stored: StoredTree) -> None:
    """As ``hippo plan`` draws it, with how each branch stands."""
    if stored.stages:
        console.print(
            draw_stage_tree(
                stored.stages,
                max_lines=MAX_TREE_LINES,
                tell=lambda stages: _tell(stages, stored),
            )
        )
    _print_standing(console, replayed)
    counts = ", ".join(
        f"{sum(found is state for found in stored.states.values())} {state.lower()}"
        for state in StageState
    )
    line = f"{counted(len(stored.stages), 'stage')}: {counts}"
    if stored.workers:
        line += f"; {counted(stored.workers, 'worker')} at work"
    console.print(line)


def _tell(stages: Sequence[Stage], stored: StoredTree) -> Text:
    """How a branch stands: its first stage that is not done says it, or else its end."""
    text = Text()
    undone = next((s for s in stages if stored.states[s.key] is not StageState.DONE), None)
    state = StageState.DONE if undone is None else stored.states[undone.key]
    if undone is None:
        told = "stored" if stages[-1].key in stored.stored else "done"
    elif state is StageState.RUNNING:
        told = f"running beyond {stored.positions[undone.key]}"
    else:
        told = state.lower()
        if undone is not stages[0]:
            told = f"done up to {undone.start}, then {told}"
    text.append(f"  {told}", style=_STYLES[state])
    beyond = sum(stored.beyond[stage.key] for stage in stages)
    if beyond:
        text.append(f", {counted(beyond, 'worker')} below", style=_STYLES[StageState.RUNNING])
    return text


def tree_to_json(replayed: Replayed, stored: StoredTree) -> dict[str, Any]:
    """The document of ``hippo tree -o json``: stages as ``hippo plan`` has them, and their
    states.
    """
    return {
        **_identity(replayed),
        "workers": stored.workers,
        "stages": [
            {
                "key": stage.key,
                "parent": stage.parent,
                "start": stage.start,
                "end": stage.end,
                "hyperparameters": stage.node.sequence.values(stage.start) if stage.steps else {},
                "trials": [f"{study}-{index}" for study, index in stage.trials],
                "state": str(stored.states[stage.key]),
                "isStored": stage.key in stored.stored,
                "position": stored.positions.get(stage.key),
                "workersBeyond": stored.beyond[stage.key],
            }
            for stage in stored.stages
        ],
    }
