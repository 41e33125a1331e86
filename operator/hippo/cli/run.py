"""``hippo run``: train studies on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hippo.cli.arguments import StudiesArgument, locate_studies, open_store, store_beside
from hippo.cli.log_files import LOCAL_LOGS
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.progress import Progress
from hippo.cli.render.tables import print_result
from hippo.lifecycles import StudyState
from hippo.local import LocalDriver, RunOptions, build_result
from hippo.model import InvalidSpec
from hippo.session.followed import find_followed
from hippo.store import locate_store

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Folder or s3://bucket/prefix for checkpoints and results. Default: .hippo beside the"
        " first study.",
        show_default=False,
    ),
]


def run(
    studies: StudiesArgument,
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
            help="With --no-merge: store of a merged run. Repeats its decisions that depend on the"
            " order of results (asha, median, optuna), so that both train the same trials.",
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Retry failed trials from their stored checkpoints, after you have fixed the"
            " cause.",
        ),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train studies on this machine. Studies of several files share one plan.

    Run it again after a stop to resume. To resume a study that has ended, first raise the limit
    that ended it (budget, maxTrials, maxFailedTrials). Later studies reuse what the store holds.
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
        print_result(open_console(), result, [item.study for item in located])
    if any(run.state is not StudyState.SUCCEEDED for run in engine.studies.values()):
        raise typer.Exit(1)


def _logs_of(url: str, paths: list[Path]) -> Path:
    """Return the folder of workers' logs: in a folder store, else beside the first study."""
    if "://" in url:
        return Path(store_beside(paths[0])).with_name(LOCAL_LOGS)
    return Path(url) / "logs"
