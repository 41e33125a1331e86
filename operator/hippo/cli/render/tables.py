"""Results and plans as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from hippo.cli.render.numbers import describe_values, number
from hippo.cli.render.rows import Column, Listing
from hippo.cli.render.stage_tree import draw_stage_tree
from hippo.model import Objective, Study
from hippo.model.words import counted
from hippo.views.plan_preview import PlanAnalysis
from hippo.views.stored_study import Replayed

MAX_ROWS = 20


def print_result(console: Console, result: dict[str, Any], studies: list[Study]) -> None:
    """Print the trials, the best first, and what was saved."""
    for study in studies:
        console.print(_list_trials(result, study))
    console.print(_steps_line(result))
    console.print(_time_line(result))
    if len(result["studies"]) > 1:
        for item in result["studies"]:
            console.print(
                f"  {item['study']}: {_duration(item['workerSeconds'])} of worker time, work that"
                f" studies share split evenly; alone and trial by trial about"
                f" {_duration(item['workerSecondsAlone'])}",
            )
    by_name = {study.name: study for study in studies}
    for item in result["studies"]:
        if item["best"] is None:
            told = f": {item['message']}" if item["message"] else ", without a result"
            console.print(Text(f"{item['study']}: {item['phase'].lower()}{told}", style="red"))
        else:
            study = by_name[item["study"]]
            print_best(console, item, select_own(result["trials"], study), study.spec.objective)


def select_own(rows: list[dict[str, Any]], study: Study) -> list[dict[str, Any]]:
    """Return the trials of a study, without replicates."""
    seed = study.spec.trainer.seed
    return [row for row in rows if row["study"] == study.name and row["seed"] == seed]


def print_best(
    console: Console, item: dict[str, Any], rows: list[dict[str, Any]], objective: Objective
) -> None:
    """Print the best trial, why it is best, and its replicates.

    ``rows``: the trials of its study without replicates.
    """
    best, replicates = item["best"], item["replicates"]
    metric = objective.metric
    values = leading_values(rows, objective)
    first = [metric] if metric in best["metrics"] else []
    others = [name for name in best["metrics"] if name != metric]
    told = ", ".join(
        f"{name} {number(best['metrics'][name], values if name == metric else ())}"
        for name in (*first, *others)
        if best["metrics"][name] is not None
    )
    console.print(
        Text.assemble((f"best of {item['study']}: ", "bold"), f"{best['trial']}: {told}"),
    )
    console.print(Text(f"  {describe_values(best['hyperparameters'])}"))
    if any(row["trial"] == best["trial"] and row.get(metric) for row in replicates):
        console.print(Text(f"  {_why_best(best, rows, objective)}"))
    for row in replicates:
        console.print(Text(f"  {_replicate_line(row)}"))


def _why_best(best: dict[str, Any], rows: list[dict[str, Any]], objective: Objective) -> str:
    """Explain the winner: by its replicates it may not be the one with the best single result."""
    metric = objective.metric
    text = f"chosen by its mean {metric} under other seeds, not by a single result"
    single = rank_single(rows, objective)[0]
    if single["trial"] == best["trial"]:
        return text
    value = number(single["metrics"][metric], leading_values(rows, objective))
    return f"{text}: the best single {metric} is {value}, of {single['trial']}"


def rank_single(rows: list[dict[str, Any]], objective: Objective) -> list[dict[str, Any]]:
    """Return the trials with a result, ordered by the last step, then by the result alone."""
    sound = [row for row in rows if row["metrics"].get(objective.metric) is not None]
    sign = -1.0 if objective.goal == "maximize" else 1.0
    return sorted(sound, key=lambda row: (-row["steps"], sign * row["metrics"][objective.metric]))


def leading_values(rows: list[dict[str, Any]], objective: Objective) -> list[float]:
    """Return the objective of the best trials, which digits must distinguish."""
    return [row["metrics"][objective.metric] for row in rank_single(rows, objective)[:MAX_ROWS]]


def _steps_line(result: dict[str, Any]) -> str:
    trained, requested = result["stepsTrained"], result["stepsRequested"]
    if not requested:
        return f"steps trained: {trained}; no trial has a result"
    more = max(0, trained - result["stepsUnique"])
    shared = requested - trained + more
    return (
        f"steps trained: {trained} of {requested} requested, merge rate {result['mergeRate']:.2f}"
        f" ({counted(shared, 'step')} {'was' if shared == 1 else 'were'} shared"
        + (f"; {more} more for trials that failed or were stopped, or again)" if more else ")")
    )


def _time_line(result: dict[str, Any]) -> str:
    """Return this run's time and that of earlier runs: an ended study that is run again trains
    nothing.
    """
    estimate, earlier = result["trialBasedEstimate"], result["workerSecondsEarlier"]
    here = result["workerSeconds"] - earlier
    line = f"time: {_duration(result['makespanSeconds'])}"
    if earlier and not here:
        line += f", in which nothing was trained; earlier runs used {_duration(earlier)}"
        line += " of worker time"
    else:
        line += f" on {counted(result['workers'], 'worker')}"
        line += f", using {_duration(here)} of worker time"
        line += f", and {_duration(earlier)} in earlier runs" if earlier else ""
    if not estimate["workerSeconds"]:
        return line
    return (
        f"{line}; trial by trial about {_duration(estimate['makespanSeconds'])} and"
        f" {_duration(estimate['workerSeconds'])} (estimated from measured steps)"
    )


def _replicate_line(row: dict[str, Any]) -> str:
    """Return a trial's metrics over its replicates: mean and sample standard deviation."""
    spreads = []
    for name, spread in row.items():
        if isinstance(spread, dict):
            text = f"{name} {number(spread['mean'])}"
            if spread["standardDeviation"] is not None:
                text += f" ± {spread['standardDeviation']:.2g}"
            spreads.append(f"{text} over {counted(spread['count'], 'other seed')}")
    return f"{row['trial']} again: {', '.join(spreads) or 'no replicate succeeded'}"


def _list_trials(result: dict[str, Any], study: Study) -> Listing:
    objective = study.spec.objective
    everything = [row for row in result["trials"] if row["study"] == study.name]
    rows = select_own(result["trials"], study)
    sign = -1.0 if objective.goal == "maximize" else 1.0

    best = next(item["best"] for item in result["studies"] if item["study"] == study.name)

    def order(row: dict[str, Any]) -> tuple[int, float, bool]:
        value = row["metrics"].get(objective.metric)
        return (-row["steps"], sign * value if value is not None else float("inf"), row != best)

    rows.sort(key=order)
    title = f"{study.name}: {counted(len(rows), 'trial')}"
    if len(everything) > len(rows):
        title += f" and {counted(len(everything) - len(rows), 'replicate')}"
    has_parents = any(row["parent"] is not None for row in rows)
    listing = Listing(
        [
            Column("trial"),
            *((Column("from"),) if has_parents else ()),
            Column("phase"),
            Column("steps"),
            Column(objective.metric, is_number=True),
            Column("hyper-parameters", is_folded=True),
        ],
        title,
    )
    total = len(rows)
    alike = Counter(row["reason"] for row in rows if row["phase"] == "Failed")
    rows = _without_repeated_failures(rows)
    values = leading_values(rows, objective)
    for row in rows[:MAX_ROWS]:
        told = row["reason"] if row["phase"] in ("Failed", "Diverged") else ""
        if row["phase"] == "Failed" and alike[told] > 1:
            told += f" (and {counted(alike[told] - 1, 'other trial')} likewise)"
        listing.add(
            row["trial"],
            *((row["parent"] or "",) if has_parents else ()),
            row["phase"],
            str(row["steps"]),
            number(row["metrics"].get(objective.metric), values),
            told or describe_values(row["hyperparameters"]),
            style="bold" if row == best else "",
        )
    if len(rows) > MAX_ROWS:
        more = f"{len(rows) - MAX_ROWS} more, of {total} in all (all with hippo results)"
        listing.add("...", *([""] * (4 if has_parents else 3)), more)
    return listing


def _without_repeated_failures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop failures with a reason shown before: often one stage causes them all."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        if row["phase"] == "Failed":
            if row["reason"] in seen:
                continue
            seen.add(row["reason"])
        kept.append(row)
    return kept


def print_plan(console: Console, analysis: PlanAnalysis) -> None:
    """Print the tree, the savings, and what limits them."""
    console.print(draw_stage_tree(analysis.stages))
    if analysis.is_one_course:
        console.print(
            Text(
                "drawn with results by chance: which trials go on depends on the real ones",
                style="dim",
            )
        )
    saved = 1 - analysis.steps_unique / max(1, analysis.steps_requested)
    console.print(
        f"{counted(len(analysis.trials), 'trial')},"
        f" {counted(analysis.steps_requested, 'step')} requested,"
        f" {analysis.steps_unique} once merged: merge rate {analysis.merge_rate:.2f},"
        f" {saved:.0%} of the work saved;"
        f" critical path {counted(analysis.critical_path_steps, 'step')}",
    )
    names = ("workers", "trial by trial", "stage tree, at best", "faster")
    listing = Listing([Column(name, is_number=True) for name in names], "time in steps")
    for workers, alone, bound in analysis.by_workers:
        listing.add(str(workers), str(alone), str(bound), f"{alone / max(1, bound):.2f}x")
    console.print(listing)
    for line in _rung_lines(analysis):
        console.print(Text(line))
    if analysis.limits:
        console.print(Text("what limits the merge rate", style="bold"))
    for limit in analysis.limits:
        console.print(
            Text(
                f"  With {limit.name} fixed, the merge rate would be"
                f" {limit.merge_rate_without:.2f}. {limit.advice}"
            )
        )


def print_standing(console: Console, replayed: Replayed) -> None:
    """Print a stored study's state, and what is damaged in its plan."""
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


def _rung_lines(analysis: PlanAnalysis) -> Iterator[str]:
    for rung in analysis.rungs:
        if len([other for other in analysis.rungs if other.study == rung.study]) < 2:
            continue
        compared = "1 trial is" if rung.trials == 1 else f"{rung.trials} trials are"
        line = f"{rung.study}: at step {rung.step} {compared} compared"
        if rung.trials > 1:
            line += f", {rung.distinct_prefixes} of them differ"
        if rung.distinct_prefixes < rung.trials:
            line += "; those that are alike so far tie, and a hash of the seed decides"
        if rung.distinct_prefixes == 1 and rung.trials > 1:
            line = f"warning: {line}: the rung comes before the first fork, raise {rung.remedy}"
        yield line


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
