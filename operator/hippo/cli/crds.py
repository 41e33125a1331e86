"""``hippo crds``: the definitions of Hippo's kinds, for a cluster."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hippo.cli.output import print_json


class Format(Enum):
    """How the definitions are written to standard output."""

    YAML = "yaml"
    JSON = "json"


def crds(
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write one file for each kind into this folder, instead of standard output.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="How they are written to standard output.")
    ] = Format.YAML,
) -> None:
    """Write the CustomResourceDefinitions of Study, Trial and SearchPlan.

    hippo crds | kubectl apply -f -
    """
    # Imported here, because it takes a while, and only this command needs it.
    from hippo.kube.crds import build_crds
    from hippo.kube.rendering import render

    definitions = build_crds()
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, definition in definitions.items():
            (directory / name).write_text(render(definition), encoding="utf-8")
    elif output is Format.JSON:
        print_json({"apiVersion": "v1", "kind": "List", "items": list(definitions.values())})
    else:
        sys.stdout.write("---\n".join(render(item) for item in definitions.values()))
        sys.stdout.flush()
