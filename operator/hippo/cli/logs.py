"""``hippo logs``: shows logs of a study's workers on this machine, or of its pods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hippo.cli.arguments import (
    NamedNamespaceOption,
    StoreOption,
    StudyArgument,
    find_named,
    is_file_name,
    locate_studies,
)
from hippo.cli.log_files import find_folder, show_files
from hippo.cli.pod_logs import show_pods
from hippo.store import StoreError
from hippo.views.stored_study import Named, find_chains, find_trial, replay


def logs(
    study: StudyArgument,
    trial: Annotated[
        str | None,
        typer.Option(
            help="Only logs of workers that trained steps of this trial (name or number).",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the logs.")] = False,
    tail: Annotated[
        int | None,
        typer.Option(min=0, help="Last lines of each worker. Default: all.", show_default=False),
    ] = None,
    store: StoreOption = None,
    namespace: NamedNamespaceOption = None,
) -> None:
    """Show the logs of a study's workers, on this machine or in pods, the newest first."""
    named, why = _find(study, store, namespace)
    chains = _chains_of(named, trial) if trial is not None else None
    folder = find_folder(named, study) if named is not None else None
    if named is not None and folder is not None:
        show_files(named, folder, chains, follow=follow, tail=tail)
        return
    name, namespace = (named.name, named.namespace) if named else _identify(study, namespace)
    show_pods(name, namespace, chains, follow=follow, tail=tail, why=why)


def _find(study: str, store: str | None, namespace: str | None) -> tuple[Named | None, str]:
    """Find the study in its store, or the reason why not: the store may be unreachable."""
    try:
        return find_named(study, store, namespace), ""
    except StoreError as error:
        return None, str(error)


def _identify(study: str, namespace: str | None) -> tuple[str, str | None]:
    if not is_file_name(study):
        return study, namespace
    (located,) = locate_studies([Path(study)])
    return located.study.name, namespace or located.study.namespace


def _chains_of(named: Named | None, trial: str) -> set[str]:
    if named is None:
        raise StoreError(
            "--trial needs the study's store, which tells who trained the trial: say --store"
        )
    replayed = replay(named)
    return find_chains(replayed, find_trial(replayed, trial, "--trial"))
