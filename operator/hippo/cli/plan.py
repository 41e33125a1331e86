"""``hippo plan``: the stage tree of studies, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from hippo.cli.arguments import StudiesArgument, locate_studies
from hippo.cli.measured import LikeOption, describe_measured, describe_source, open_measured
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.tables import print_plan
from hippo.local.study_files import build_signature_document
from hippo.model.words import counted
from hippo.plan import BreakEven, find_break_even
from hippo.session.measured import Measured
from hippo.views.plan_preview import PlanAnalysis, analyse, to_json


def plan(
    studies: StudiesArgument, like: LikeOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Draw the stage tree, what it saves, and what limits the saving. Trains nothing.

    With --like, also say in seconds what merging saves and costs, and how long a stage must be to
    pay.
    """
    located = locate_studies(studies)
    build_signature_document(located, merge=True)  # raises if the studies cannot share a plan
    measured = open_measured(like, located[0].study)
    found = analyse([item.study for item in located])
    if output is Output.JSON:
        print_json({**to_json(found), "breakEven": _to_json(found, measured)})
        return
    console = open_console()
    print_plan(console, found)
    if measured is not None:
        _print_break_even(console, _weigh(found, measured), measured)


def _weigh(found: PlanAnalysis, measured: Measured) -> BreakEven:
    return find_break_even(found.stages, measured.step, measured.overheads)


def _to_json(found: PlanAnalysis, measured: Measured | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    balance = _weigh(found, measured)
    return {
        "steps": balance.steps,
        "sharedStages": balance.shared,
        "unpaidStages": balance.unpaid,
        "savedSeconds": balance.saved,
        "costSeconds": balance.cost,
        "seconds": {"step": measured.step, **asdict(measured.overheads)},
        "like": describe_source(measured),
    }


def _print_break_even(console: Console, balance: BreakEven, measured: Measured) -> None:
    console.print(Text("what merging costs", style="bold"))
    overheads = measured.overheads
    unpaid = f"{balance.unpaid} of {counted(balance.shared, 'shared stage')}"
    for line in (
        f"A step takes {measured.step:.3g} s, a save {overheads.save:.3g} s, a load"
        f" {overheads.load:.3g} s: {describe_measured(measured)}.",
        f"Merging saves {_in_digits(balance.saved)} s of training; saving and loading where trials"
        f" part costs {_in_digits(balance.cost)} s.",
        f"A stage that two trials share pays from {counted(balance.steps, 'step')} on; {unpaid}"
        f" {'is' if balance.unpaid == 1 else 'are'} too short to pay.",
    ):
        console.print(Text(f"  {line}"))


def _in_digits(seconds: float) -> str:
    """In three digits, or as a whole number."""
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"
