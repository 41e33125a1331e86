"""The ``hippo`` command. Results on standard output; progress and messages on standard error."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hippo.cli import crds
from hippo.cli import export as exporting
from hippo.cli import operator as operating
from hippo.cli import results as cluster
from hippo.cli import simulate as simulating
from hippo.cli import store as storage
from hippo.cli import verify as verification
from hippo.cli.arguments import locate_studies, open_store, store_beside
from hippo.cli.logs import LOCAL_LOGS
from hippo.cli.render import tables
from hippo.cli.render.output import Output, OutputOption, open_console, print_json, print_lines
from hippo.cli.render.progress import Progress
from hippo.lifecycles import StudyState
from hippo.local import LocalDriver, RunOptions, build_result
from hippo.local.study_files import build_signature_document
from hippo.model import InvalidSpec
from hippo.protocol.compatibility import own_version
from hippo.session.followed import find_followed
from hippo.store import locate_store
from hippo.views import plan_preview

app = typer.Typer(
    name="hippo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Studies = Annotated[
    list[Path],
    typer.Argument(help="Study files (YAML); - is standard input.", show_default=False),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Folder or s3://bucket/prefix for checkpoints and results. Default: .hippo beside the"
        " first study.",
        show_default=False,
    ),
]


def _print_version(is_asked: bool) -> None:
    if not is_asked:
        return
    print_lines(f"hippo {own_version() or '(not installed)'}\n")
    raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Train hyper-parameter studies through a stage tree: every shared prefix once."""


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
    like: Annotated[
        str | None,
        typer.Option(
            help="With --no-merge: store of a merged run. Decisions that depend on the order of"
            " results (asha, median, optuna) are repeated from there, so that both train the same"
            " trials.",
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Try trials again that have failed, from what is stored; once their cause is"
            " mended.",
        ),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train studies on this machine. Several files are several studies over one plan.

    Run it again after a stop, and it goes on; also after an end, once the limit behind it (budget,
    maxTrials, maxFailedTrials) is raised. Later studies reuse what the store holds.
    """
    located = locate_studies(studies)
    url = locate_store(store) if store is not None else store_beside(studies[0])
    console = open_console(stderr=True)
    followed = {}
    if like is not None:
        if not no_merge:
            raise InvalidSpec.at("--like", "goes with --no-merge")
        other = open_store(like)
        written = [item.study for item in located]
        followed = find_followed(other.blobs, other.url, written, "--like")
    options = RunOptions(
        store=url,
        logs=_logs_of(url, studies),
        workers=workers,
        merge=not no_merge,
        followed=followed,
        retry_failed=retry_failed,
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
    if "://" in url:
        return Path(store_beside(paths[0])).with_name(LOCAL_LOGS)
    return Path(url) / "logs"


@app.command()
def plan(studies: Studies, output: OutputOption = Output.TABLE) -> None:
    """Draw the stage tree; say what it saves and what limits that. Trains nothing."""
    located = locate_studies(studies)
    build_signature_document(located, merge=True)  # studies that share no trainer share no tree
    found = plan_preview.analyse([item.study for item in located])
    if output is Output.JSON:
        print_json(plan_preview.to_json(found))
    else:
        tables.print_plan(open_console(), found)


app.command()(simulating.simulate)


@app.command()
def verify(
    study: Annotated[Path, typer.Argument(help="Study file (YAML), or -.", show_default=False)],
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
        verification.print_findings(open_console(), located.study, found)
    if not found["ok"]:
        raise typer.Exit(1)


app.command()(exporting.export)
cluster.register(app)
app.add_typer(storage.app)
app.command("operator")(operating.operate)
app.command()(crds.crds)
