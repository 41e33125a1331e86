"""The ``hippo`` command. Results on standard output; progress and messages on standard error."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hippo.cli import (
    analysis,
    cluster,
    crds,
    operating,
    simulating,
    storage,
    tables,
    verification,
)
from hippo.cli.live import Progress
from hippo.cli.locating import find_named, locate_studies, store_beside
from hippo.cli.output import Output, OutputOption, open_console, print_json
from hippo.driving.sessions import build_signature_document
from hippo.lifecycles import StudyState
from hippo.local import LocalDriver, RunOptions, build_result
from hippo.model import InvalidSpec
from hippo.store import StoreError, locate_store

app = typer.Typer(
    name="hippo",
    help="Train hyper-parameter studies through a stage tree: every shared prefix once.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Studies = Annotated[list[Path], typer.Argument(help="Study files (YAML).", show_default=False)]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Folder or s3://bucket/prefix for checkpoints and results. Default: .hippo beside the"
        " first study.",
        show_default=False,
    ),
]


@app.command()
def run(
    studies: Studies,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Worker processes. Default: GPUs if any, otherwise cores.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    no_merge: Annotated[
        bool, typer.Option("--no-merge", help="Train trial by trial, for comparison.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train studies on this machine. Several files are several studies over one plan.

    Run it again after a stop, and it goes on; later studies reuse what the store holds.
    """
    located = locate_studies(studies)
    url = locate_store(store) if store is not None else store_beside(studies[0])
    console = open_console(stderr=True)
    options = RunOptions(
        store=url, logs=_logs_of(url, studies), workers=workers, merge=not no_merge
    )
    begun = time.monotonic()
    with Progress(console) as progress:
        driver = LocalDriver(located, options, progress)
        engine = driver.run()
    result = build_result(
        engine,
        makespan_seconds=time.monotonic() - begun,
        workers=engine.workers,
        worker_seconds_earlier=progress.worker_seconds_earlier,
    )
    if output is Output.JSON:
        print_json(result)
    else:
        tables.print_result(open_console(), result, [item.study for item in located])
    if any(run.state is not StudyState.SUCCEEDED for run in engine.studies.values()):
        raise typer.Exit(1)


def _logs_of(url: str, paths: list[Path]) -> Path:
    """Workers' logs lie within a store that is a folder, else beside the first study."""
    return paths[0].resolve().parent / ".hippo-logs" if "://" in url else Path(url) / "logs"


@app.command()
def plan(studies: Studies, output: OutputOption = Output.TABLE) -> None:
    """Draw the stage tree; say what it saves and what limits that. Trains nothing."""
    located = locate_studies(studies)
    build_signature_document(located, merge=True)  # studies that share no trainer share no tree
    found = analysis.analyse([item.study for item in located])
    if output is Output.JSON:
        print_json(analysis.to_json(found))
    else:
        tables.print_plan(open_console(), found)


app.command()(simulating.simulate)


@app.command()
def verify(
    study: Annotated[Path, typer.Argument(help="Study file (YAML).", show_default=False)],
    steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Steps to train in each way. Default: up to 100, or 20 s, to meet every change"
            " of a hyper-parameter and the end of an epoch.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a trainer: is it exact, and does it read what the study varies?"""
    located = locate_studies([study])[0]
    found = verification.verify(located, steps)
    if output is Output.JSON:
        print_json(found)
    else:
        verification.print_findings(Console(), located.study, found)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="A study's file or name.", show_default=False)],
    best: Annotated[bool, typer.Option("--best", help="The best trial.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="File to write. Default: NAME-best.pt.", show_default=False),
    ] = None,
    store: cluster.StoreOption = None,
    namespace: storage.NamedNamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write the best trial's checkpoint as a plain PyTorch state."""
    if not best:
        raise InvalidSpec.at("export", "say which trial: --best")
    named = find_named(study, store, namespace)
    name, found = named.name, named.found[0]
    status = found.document["status"]
    if "bestKey" not in status:
        raise StoreError(f"study {name} has no result yet: run it first")
    if found.document["study"]["spec"].get("checkpoints", {}).get("retain") == "none":
        raise InvalidSpec.at(
            name, "keeps no checkpoint: set spec.checkpoints.retain to best in another study"
        )
    target = (file if file is not None else Path(f"{name}-best.pt")).resolve()
    command = [sys.executable, "-m", "stage_runner", "export"]
    command += ["--store", named.store.url, "--plan", found.plan, "--key", status["bestKey"]]
    _run_quietly([*command, "--output", str(target)])
    written = {"study": name, "trial": f"{name}-{status['best']}", "step": status["bestStep"]}
    if output is Output.JSON:
        print_json({**written, "file": str(target)})
    else:
        Console().print(
            f"{written['trial']} at step {written['step']} is written to {target}", soft_wrap=True
        )


def _run_quietly(command: list[str]) -> None:
    with tempfile.TemporaryFile("w+") as errors:
        if subprocess.run(
            command, stderr=errors, stdout=subprocess.DEVNULL, check=False
        ).returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            raise StoreError(lines[-1] if lines else "the export failed and did not say why")


cluster.register(app)
app.add_typer(storage.app)
app.command("operator")(operating.operate)
app.command()(crds.crds)
