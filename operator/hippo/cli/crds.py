"""``hippo crds``: writes the definitions of Hippo's kinds, for a cluster."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hippo.cli.render.output import print_json, print_lines


class Format(Enum):
    """Format of the definitions on standard output."""

    YAML = "yaml"
    JSON = "json"


def crds(
    directory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write files into this folder instead of standard output.",
            show_default=False,
        ),
    ] = None,
    policies: Annotated[
        bool,
        typer.Option(
            "--policies",
            help="Write the admission policy for what the CRDs cannot refuse, instead of the CRDs.",
        ),
    ] = False,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Format on standard output.")
    ] = Format.YAML,
) -> None:
    """Write the CustomResourceDefinitions of Study, Trial and SearchPlan.

    hippo crds | kubectl apply -f -
    """
    # Imported here, because the import is slow, and only this command needs it.
    from hippo.kube.crds.admission_policy import build_policies
    from hippo.kube.crds.definitions import build_crds
    from hippo.kube.crds.files import crd_files, policy_files

    if output is Format.JSON and directory is None:
        items = build_policies() if policies else build_crds()
        print_json({"apiVersion": "v1", "kind": "List", "items": items})
        return
    files = policy_files() if policies else crd_files()
    if directory is None:
        print_lines("---\n".join(files.values()))
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
