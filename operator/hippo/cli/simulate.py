"""``hippo simulate``: what a stage tree saves, in virtual time."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import typer
from rich.console import Console

from hippo.cli.arguments import StudiesArgument, locate_studies, open_store
from hippo.cli.measured import LikeOption, describe_measured, describe_source, open_measured
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.rows import Column, Listing
from hippo.local.study_files import build_signature_document
from hippo.model import External, InvalidSpec, Study
from hippo.model.words import counted
from hippo.plan import Overheads
from hippo.protocol.decisions import Decision
from hippo.session.followed import find_followed
from hippo.session.measured import Measured
from hippo.simulate import (
    Comparison,
    Curves,
    Pace,
    Simulation,
    SimulationOptions,
    SyntheticCurves,
    compare,
    find_curves,
)
from hippo.views.stored_study import Store
from hippo.views.summary import best_value, summarise


def _seconds(meaning: str, default: str = "0.0") -> Any:
    shown = f"{default}, or as --like measured"
    return typer.Option(min=0.0, help=meaning, show_default=shown)


Seconds = float | None


def simulate(
    studies: StudiesArgument,
    workers: Annotated[int, typer.Option(min=1, help="Number of workers.", show_default=False)],
    step_seconds: Annotated[Seconds, _seconds("Time to train one step.", "1.0")] = None,
    start_seconds: Annotated[Seconds, _seconds("Time to start a worker and set up.")] = None,
    load_seconds: Annotated[Seconds, _seconds("Time to load a checkpoint.")] = None,
    save_seconds: Annotated[Seconds, _seconds("Time to save a checkpoint.")] = None,
    evaluate_seconds: Annotated[Seconds, _seconds("Time to evaluate.")] = None,
    curves: Annotated[
        str | None,
        typer.Option(
            help="Store with results of this trainer, from which metrics are taken. Default: a"
            " synthetic family of learning curves.",
            show_default=False,
        ),
    ] = None,
    like: LikeOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run studies in virtual time, through the stage tree and trial by trial. Trains nothing.

    All times are in seconds, or in steps if --step-seconds is 1. Studies of several files share one
    plan. Both ways train the same trials: decisions that depend on the order of results
    (asha, median, optuna) are those of the study's run in the --curves store, if it has ended
    there; otherwise trial by trial repeats those of the stage tree.
    """
    given = {
        "step": step_seconds,
        "start": start_seconds,
        "load": load_seconds,
        "save": save_seconds,
        "evaluate": evaluate_seconds,
    }
    for name, seconds in given.items():
        if seconds is not None and not math.isfinite(seconds):
            raise InvalidSpec.at(f"--{name}-seconds", "must be finite")
    if step_seconds == 0:
        raise InvalidSpec.at("--step-seconds", "must be more than 0")
    located = locate_studies(studies)
    document = build_signature_document(located, merge=True)
    for item in located:
        if isinstance(item.study.spec.algorithm, External):
            raise InvalidSpec.at(
                "spec.algorithm.name",
                f"{item.study.name} is external: its trials are made while it runs",
            )
    written = [item.study for item in located]
    opened = open_store(curves) if curves is not None else None
    followed, reasons = _find_followed(opened, written) if opened is not None else ({}, [])
    measured = open_measured(like, written[0])
    step, overheads = _choose_times(given, measured)
    options = SimulationOptions(workers, Pace(step), overheads, followed=followed)
    try:
        found = compare(written, _open_curves(written, opened, document), options)
    except InvalidSpec as error:  # curves that end too early: it drew its own points
        raise InvalidSpec([*error.errors, *reasons]) from None
    if output is Output.JSON:
        print_json(to_json(found, curves, measured))
    else:
        print_comparison(open_console(), found, curves, measured)


def _choose_times(
    given: dict[str, float | None], measured: Measured | None
) -> tuple[float, Overheads]:
    """The seconds of a step and of all else: as given, or as measured, or by default."""
    step, overheads = (measured.step, measured.overheads) if measured else (1.0, Overheads())
    chosen = {name: seconds for name, seconds in given.items() if seconds is not None}
    return chosen.pop("step", step), dataclasses.replace(overheads, **chosen)


def _find_followed(
    opened: Store, studies: list[Study]
) -> tuple[dict[str, tuple[Decision, ...]], list[tuple[str, str]]]:
    """The store's decisions for studies that decide by the order of results, by study; and why it
    has none for the others, which then decide afresh.
    """
    found: dict[str, tuple[Decision, ...]] = {}
    reasons: list[tuple[str, str]] = []
    for study in studies:
        try:
            found |= find_followed(opened.blobs, opened.url, [study], "--curves")
        except InvalidSpec as error:
            reasons += error.errors
    return found, reasons


def _open_curves(studies: list[Study], opened: Store | None, document: dict[str, Any]) -> Curves:
    if opened is not None:
        seed = studies[0].spec.trainer.seed
        return find_curves(opened.blobs, opened.url, studies[0].namespace, document, seed)
    objectives = tuple(study.spec.objective for study in studies)
    return SyntheticCurves(objectives, max(study.spec.steps for study in studies))


def to_json(found: Comparison, curves: str | None, measured: Measured | None) -> dict[str, Any]:
    """Return the document of ``hippo simulate -o json``. Times are in seconds."""
    options, bounds = found.tree.options, found.bounds
    summary = summarise(found.tree.engine)
    return {
        "trials": sum(len(run.trials) for run in found.tree.engine.studies.values()),
        "stepsRequested": summary.steps_requested,
        "stepsUnique": bounds.steps_unique,
        "mergeRate": summary.merge_rate,
        "workers": options.workers,
        **_figures(found.tree),
        "trialBased": _figures(found.alone),
        "lowerBound": bounds.lower_bound,
        "overheadBound": bounds.overhead_bound,
        "criticalPathSteps": bounds.critical_path_steps,
        "workOverWorkers": bounds.work_over_workers,
        "efficiency": bounds.lower_bound / found.tree.now if found.tree.now else 1.0,
        "speedup": found.speedup,
        "workerSecondsRatio": found.saving,
        "studies": [
            {
                "study": run.name,
                "phase": str(run.state),
                "message": run.message,
                "trials": len(run.trials),
                "decisions": "recorded" if run.name in options.followed else "simulated",
                "best": best[0].name if (best := best_value(run)) is not None else None,
            }
            for run in found.tree.engine.studies.values()
        ],
        "curves": curves if curves is not None else "synthetic",
        "seconds": {
            "step": options.pace.step,
            "start": options.overheads.start,
            "load": options.overheads.load,
            "save": options.overheads.save,
            "evaluate": options.overheads.evaluate,
        },
        "like": describe_source(measured),
    }


def _figures(simulation: Simulation) -> dict[str, Any]:
    tally = simulation.tally
    return {
        "makespan": simulation.now,
        "workerSeconds": tally.worker_seconds,
        "stepsTrained": tally.steps_trained,
        "chains": tally.chains,
        "saves": tally.saves,
    }


def print_comparison(
    console: Console, found: Comparison, curves: str | None, measured: Measured | None = None
) -> None:
    """Print both ways side by side, and the lower bound."""
    tree, bounds = found.tree, found.bounds
    summary = summarise(tree.engine)
    trials = sum(len(run.trials) for run in tree.engine.studies.values())
    console.print(
        f"{counted(trials, 'trial')} on {counted(tree.options.workers, 'worker')}:"
        f" {counted(summary.steps_requested, 'step')} requested, {bounds.steps_unique} once merged,"
        f" merge rate {summary.merge_rate:.2f}",
    )
    if measured is not None:
        times = tree.options.overheads
        console.print(
            f"a step takes {tree.options.pace.step:.3g} s, a start {times.start:.3g} s, a load"
            f" {times.load:.3g} s, a save {times.save:.3g} s, an evaluation"
            f" {times.evaluate:.3g} s: {describe_measured(measured)}",
            soft_wrap=True,
        )
    names = ("time", "worker time", "steps trained", "chains", "saves")
    listing = Listing([Column(""), *(Column(name, is_number=True) for name in names)])
    for name, simulation in (("stage tree", tree), ("trial by trial", found.alone)):
        tally = simulation.tally
        listing.add(
            name,
            f"{simulation.now:.5g}",
            f"{tally.worker_seconds:.5g}",
            str(tally.steps_trained),
            str(tally.chains),
            str(tally.saves),
        )
    console.print(listing)
    limited = any(run.study.spec.parallelism for run in tree.engine.studies.values())
    within = " within spec.parallelism" if limited else ""
    console.print(
        f"{found.speedup:.2f}x in time, {found.saving:.2f}x in worker time; no schedule{within}"
        f" ends before {bounds.lower_bound:.5g} (longest path"
        f" {counted(bounds.critical_path_steps, 'step')}, work over workers"
        f" {bounds.work_over_workers:.5g})",
    )
    for run in tree.engine.studies.values():
        if run.name in tree.options.followed:
            console.print(f"{run.name}: decisions are those of its run in {curves}")
        elif run.tuner.by_order is not None:
            console.print(
                f"{run.name}: {run.tuner.by_order} depends on the order of results; both ways take"
                " the decisions of the stage tree"
            )
    if curves is None and any(len(run.tuner.rungs) > 1 for run in tree.engine.studies.values()):
        console.print("learning curves are synthetic: real ones may have other trials go on")
