"""``--like`` of plans and simulations: times that a store has measured."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hippo.cli.arguments import open_store
from hippo.model import Study
from hippo.session.measured import Measured, find_measured

LikeOption = Annotated[
    str | None,
    typer.Option(
        help="Store with a run of this trainer, whose measured times are taken.",
        metavar="STORE",
        show_default=False,
    ),
]


def open_measured(like: str | None, study: Study) -> Measured | None:
    """Return what the store has measured. Raises InvalidSpec, StoreError."""
    if like is None:
        return None
    opened = open_store(like)
    return find_measured(opened.blobs, opened.url, study.namespace, study.spec.trainer, "--like")


def describe_measured(measured: Measured) -> str:
    return (
        f"the means of {measured.chains} chains and {measured.steps} steps of plan {measured.plan}"
        f" in {measured.source}"
    )


def describe_source(measured: Measured | None) -> dict[str, Any] | None:
    """Return where times come from, for JSON."""
    if measured is None:
        return None
    return {
        "store": measured.source,
        "plan": measured.plan,
        "chains": measured.chains,
        "steps": measured.steps,
    }
