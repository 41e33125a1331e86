"""Results and plans as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hippo.cli.analysis import PlanAnalysis
from hippo.cli.drawing import draw_stage_tree
from hippo.cli.output import count
from hippo.model import Study

MAX_ROWS = 20


def print_result(console: Console, result: dict[str, Any], studies: list[Study]) -> None:
    """The trials, the best first, and what was saved."""
    for study in studies:
        console.print(_trial_table(result, study))
    console.print(_steps_line(result))
    console.print(_time_line(result))
    if len(result["studies"]) > 1:
        for item in result["studies"]:
            console.print(
                f"  {item['study']}: {_duration(item['workerSeconds'])} of worker time, work that"
                f" studies share split evenly; alone and trial by trial about"
                f" {_duration(item['workerSecondsAlone'])}"
            )
    for item in result["studies"]:
        best = item["best"]
        if best is None:
            console.print(
                Text(f"{item['study']}: {item['phase'].lower()}: {item['message']}", style="red")
            )
            continue
        values = ", ".join(
            f"{name} {value:.4f}" for name, value in best["metrics"].items() if value is not None
        )
        console.print(
            Text.assemble((f"best of {item['study']}: ", "bold"), f"{best['trial']}: {values}")
        )
        console.print(Text(f"  {describe_values(best['hyperparameters'])}"))
        for row in item["replicates"]:
            console.print(Text(f"  {_replicate_line(row)}"))


def _steps_line(result: dict[str, Any]) -> str:
    trained, requested = result["stepsTrained"], result["stepsRequested"]
    if not requested:
        return f"steps trained: {trained}; no trial has a result"
    more = max(0, trained - result["stepsUnique"])
    return (
        f"steps trained: {trained} of {requested} requested, merge rate {result['mergeRate']:.2f}"
        f" ({requested - trained + more} steps were shared"
        + (f"; {more} more for trials that failed or were stopped, or again)" if more else ")")
    )


def _time_line(result: dict[str, Any]) -> str:
    """This run's time, and what went before: an ended study that is run again trains nothing."""
    estimate, earlier = result["trialBasedEstimate"], result["workerSecondsEarlier"]
    here = result["workerSeconds"] - earlier
    line = f"time: {_duration(result['makespanSeconds'])}"
    if earlier and not here:
        line += f", in which nothing was trained; earlier runs used {_duration(earlier)}"
        line += " of worker time"
    else:
        line += f" on {count(result['workers'], 'worker')}, using {_duration(here)} of worker time"
        line += f", and {_duration(earlier)} in earlier runs" if earlier else ""
    if not estimate["workerSeconds"]:
        return line
    return (
        f"{line}; trial by trial about {_duration(estimate['makespanSeconds'])} and"
        f" {_duration(estimate['workerSeconds'])} (estimated from measured steps)"
    )


def _replicate_line(row: dict[str, Any]) -> str:
    """A trial's metrics over its replicates: mean and sample standard deviation."""
    spreads = []
    for name, spread in row.items():
        if isinstance(spread, dict):
            text = f"{name} {spread['mean']:.4f}"
            if spread["standardDeviation"] is not None:
                text += f" ± {spread['standardDeviation']:.4f}"
            spreads.append(f"{text} over {spread['count']} other seeds")
    return f"{row['trial']} again: {', '.join(spreads) or 'no replicate succeeded'}"


def _trial_table(result: dict[str, Any], study: Study) -> Table:
    objective = study.spec.objective
    everything = [row for row in result["trials"] if row["study"] == study.name]
    rows = [row for row in everything if row["seed"] == study.spec.trainer.seed]
    sign = -1.0 if objective.goal == "maximize" else 1.0

    best = next(item["best"] for item in result["studies"] if item["study"] == study.name)

    def order(row: dict[str, Any]) -> tuple[int, float, bool]:
        value = row["metrics"].get(objective.metric)
        return (-row["steps"], sign * value if value is not None else float("inf"), row != best)

    rows.sort(key=order)
    table = Table(
        title=f"{study.name}: {count(len(rows), 'trial')}"
        + (
            f" and {count(len(everything) - len(rows), 'replicate')}"
            if len(everything) > len(rows)
            else ""
        ),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    has_parents = any(row["parent"] is not None for row in rows)
    for name in ("trial", *(("from",) if has_parents else ()), "phase", "steps"):
        table.add_column(name, no_wrap=True)
    table.add_column(objective.metric, justify="right", no_wrap=True)
    table.add_column("hyper-parameters")
    total = len(rows)
    alike = Counter(row["reason"] for row in rows if row["phase"] == "Failed")
    rows = _without_repeated_failures(rows)
    for row in rows[:MAX_ROWS]:
        value = row["metrics"].get(objective.metric)
        shown = f"{value:.5g}" if value is not None else "-"
        told = row["reason"] if row["phase"] in ("Failed", "Diverged") else ""
        if row["phase"] == "Failed" and alike[told] > 1:
            told += f" (and {count(alike[told] - 1, 'other trial')} likewise)"
        hyperparameters = describe_values(row["hyperparameters"])
        table.add_row(
            row["trial"],
            *((row["parent"] or "",) if has_parents else ()),
            row["phase"],
            str(row["steps"]),
            shown,
            told or hyperparameters,
            style="bold" if row == best else None,
        )
    if len(rows) > MAX_ROWS:
        table.add_row(
            "...",
            *([""] * (4 if has_parents else 3)),
            f"more, of {total} in all (all with -o json)",
        )
    return table


def _without_repeated_failures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of trials that failed for one reason, the first: often one stage is behind them all."""
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
    """The tree, the savings, and what limits them."""
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
        f"{len(analysis.trials)} trials, {analysis.steps_requested} steps requested,"
        f" {analysis.steps_unique} once merged: merge rate {analysis.merge_rate:.2f},"
        f" {saved:.0%} of the work saved;"
        f" critical path {analysis.critical_path_steps} steps"
    )
    table = Table(box=None, padding=(0, 3, 0, 0), title="time in steps", title_justify="left")
    for name in ("workers", "trial by trial", "stage tree, at best", "faster"):
        table.add_column(name, justify="right")
    for workers, alone, bound in analysis.by_workers:
        table.add_row(str(workers), str(alone), str(bound), f"{alone / max(1, bound):.2f}x")
    console.print(table)
    for line in _rung_lines(analysis):
        console.print(Text(line))
    if analysis.limits:
        console.print(Text("what limits the merge rate", style="bold"))
    for limit in analysis.limits:
        console.print(
            Text(
                f"  {limit.name}: were it the same in all trials, the merge rate would be"
                f" {limit.merge_rate_without:.2f}; {limit.advice}"
            )
        )


def _rung_lines(analysis: PlanAnalysis) -> Iterator[str]:
    for rung in analysis.rungs:
        if len([other for other in analysis.rungs if other.study == rung.study]) < 2:
            continue
        line = (
            f"{rung.study}: at step {rung.step} {rung.trials} trials are compared,"
            f" {rung.distinct_prefixes} of them differ"
        )
        if rung.distinct_prefixes < rung.trials:
            line += "; those alike up to there tie, and a hash of the seed decides"
        if rung.distinct_prefixes == 1 and rung.trials > 1:
            line = f"warning: {line}: the rung comes before the first fork, raise {rung.remedy}"
        yield line


def describe_values(hyperparameters: dict[str, Any]) -> str:
    """A trial's hyper-parameters as written, on one line."""
    return "  ".join(f"{name}={_compact(value)}" for name, value in sorted(hyperparameters.items()))


def _compact(value: Any) -> str:
    """A schedule on one line, as short as it can be told."""
    if isinstance(value, dict):
        ((name, settings),) = value.items()
        if name == "piecewise":
            return "|".join(f"{_compact(entry[1])}@{entry[0]}" for entry in settings)
        inner = ", ".join(f"{key} {_compact(item)}" for key, item in settings.items())
        return f"{name}({inner})"
    if isinstance(value, list):
        return f"[{', '.join(map(_compact, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
