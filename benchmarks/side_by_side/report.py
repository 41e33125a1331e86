"""What was measured, for people: a Markdown table and a picture of the document that is kept."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.systems import System

SYSTEMS = (System.RAY, System.NO_MERGE, System.HIPPO)
COLUMNS = {
    "cold, s": "coldSeconds",
    "warm, s": "warmSeconds",
    "worker-s": "workerSeconds",
    "CPU-s, cold": "cpuSecondsCold",
    "CPU-s, warm": "cpuSecondsWarm",
    "daemons' CPU-s": "cpuSecondsOfDaemons",
}
RATIOS = {
    "runner: ray / no-merge": (System.RAY, System.NO_MERGE),
    "sharing: no-merge / hippo": (System.NO_MERGE, System.HIPPO),
    "both: ray / hippo": (System.RAY, System.HIPPO),
}
QUANTITIES = {"cold": "coldSeconds", "warm": "warmSeconds", "worker-s": "workerSeconds"}


def table(document: dict[str, Any]) -> str:
    """Medians (least to most) of each system; then ratios, of runs of the same repetition."""
    systems = [
        "| studies | system | steps | " + " | ".join(COLUMNS) + " |",
        "| --- | --- " + "| ---: " * (1 + len(COLUMNS)) + "|",
    ]
    ratios = [
        "| studies | steps asked for : trained | what | " + " | ".join(QUANTITIES) + " |",
        "| --- | ---: | --- " + "| ---: " * len(QUANTITIES) + "|",
    ]
    for work in document["works"]:
        name = work["name"]
        for system in SYSTEMS:
            runs = _runs(document, name, system)
            cells = [_spread([run[key] for run in runs]) for key in COLUMNS.values()]
            steps = "/".join(map(str, sorted({run["stepsTrained"] for run in runs})))
            systems.append(f"| {name} | {system} | {steps} | " + " | ".join(cells) + " |")
        trained = max(run["stepsTrained"] for run in _runs(document, name, System.HIPPO))
        rate = f"{work['stepsRequested']} : {trained} = {work['stepsRequested'] / trained:.2f}"
        for what, (above, below) in RATIOS.items():
            cells = [
                _spread(_paired(document, name, above, below, key)) for key in QUANTITIES.values()
            ]
            ratios.append(f"| {name} | {rate} | {what} | " + " | ".join(cells) + " |")
    explained = [f"- {work['name']}: {work['title']}" for work in document["works"]]
    return "\n".join([*explained, "", *systems, "", *ratios])


def plot(document: dict[str, Any], path: Path) -> None:
    """Bars of medians with whiskers from least to most, as PNG."""
    import matplotlib.figure  # only this function needs it

    names = [work["name"] for work in document["works"]]
    figure = matplotlib.figure.Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(QUANTITIES))
    titles = {"cold": "end to end, cold", "warm": "end to end, warm", "worker-s": "worker-seconds"}
    width = 0.8 / len(SYSTEMS)
    for panel, (quantity, key) in zip(panels, QUANTITIES.items(), strict=True):
        for position, system in enumerate(SYSTEMS):
            values = [[run[key] for run in _runs(document, name, system)] for name in names]
            medians = [statistics.median(found) for found in values]
            below = [middle - min(found) for middle, found in zip(medians, values, strict=True)]
            above = [max(found) - middle for middle, found in zip(medians, values, strict=True)]
            panel.bar(
                [index + (position - 1) * width for index in range(len(names))],
                medians,
                width,
                yerr=[below, above],
                capsize=3,
                label=system,
            )
        panel.set_title(titles[quantity])
        panel.set_xticks(range(len(names)), names)
        panel.set_ylabel("seconds")
        panel.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=150, format="png")


def _runs(document: dict[str, Any], work: str, system: str) -> list[dict[str, Any]]:
    return [run for run in document["runs"] if (run["work"], run["system"]) == (work, system)]


def _paired(document: dict[str, Any], work: str, above: str, below: str, key: str) -> list[float]:
    """Ratios within each repetition."""
    over, under = (
        {run["repetition"]: run[key] for run in _runs(document, work, system)}
        for system in (above, below)
    )
    return [over[repetition] / under[repetition] for repetition in over if repetition in under]


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    digits = 2 if max(values) < 10 else 1
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f}–{most:.{digits}f})"
