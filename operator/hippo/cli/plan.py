"""``hippo plan``: the stage tree of studies, before anything is trained."""

from __future__ import annotations

from hippo.cli.arguments import StudiesArgument, locate_studies
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.tables import print_plan
from hippo.local.study_files import build_signature_document
from hippo.views.plan_preview import analyse, to_json


def plan(studies: StudiesArgument, output: OutputOption = Output.TABLE) -> None:
    """Draw the stage tree, what it saves, and what limits the saving. Trains nothing."""
    located = locate_studies(studies)
    build_signature_document(located, merge=True)  # raises if the studies cannot share a plan
    found = analyse([item.study for item in located])
    if output is Output.JSON:
        print_json(to_json(found))
    else:
        print_plan(open_console(), found)
