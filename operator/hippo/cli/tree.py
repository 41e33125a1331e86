"""``hippo tree``: draws a study's stage tree from its store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from hippo.cli.arguments import NamedNamespaceOption, StoreOption, StudyArgument, find_named
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.cli.render.stage_tree import draw_stage_tree
from hippo.cli.render.tables import print_standing
from hippo.model.words import counted
from hippo.plan import Stage
from hippo.views.stored_study import (
    Replayed,
    StageState,
    StoredTree,
    build_stored_tree,
    identity_to_json,
    replay,
)

MAX_TREE_LINES = 200

_STYLES = {
    StageState.DONE: "green",
    StageState.RUNNING: "yellow",
    StageState.PENDING: "dim",
    StageState.FAILED: "red",
}


def tree(
    study: StudyArgument,
    store: StoreOption = None,
    namespace: NamedNamespaceOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Draw a study's stage tree: stored, running and pending stages."""
    replayed = replay(find_named(study, store, namespace))
    stored = build_stored_tree(replayed)
    if output is Output.JSON:
        print_json(tree_to_json(replayed, stored))
    else:
        print_tree(open_console(), replayed, stored)


def print_tree(console: Console, replayed: Replayed, stored: StoredTree) -> None:
    """Draw the tree like ``hippo plan``, with the state of each branch."""
    if stored.stages:
        console.print(
            draw_stage_tree(
                stored.stages,
                max_lines=MAX_TREE_LINES,
                tell=lambda stages: _tell(stages, stored),
            )
        )
    print_standing(console, replayed)
    counts = ", ".join(
        f"{sum(found is state for found in stored.states.values())} {state.lower()}"
        for state in StageState
    )
    line = f"{counted(len(stored.stages), 'stage')}: {counts}"
    if stored.workers:
        line += f"; {counted(stored.workers, 'worker')} at work"
    console.print(line)


def _tell(stages: Sequence[Stage], stored: StoredTree) -> Text:
    """Describe a branch's state by its first stage that is not done, or else by its end."""
    text = Text()
    undone = next((s for s in stages if stored.states[s.key] is not StageState.DONE), None)
    state = StageState.DONE if undone is None else stored.states[undone.key]
    if undone is None:
        told = "stored" if stages[-1].key in stored.stored else "done"
    elif state is StageState.RUNNING:
        told = f"running beyond {stored.positions[undone.key]}"
    else:
        told = state.lower()
        if undone is not stages[0]:
            told = f"done up to {undone.start}, then {told}"
    text.append(f"  {told}", style=_STYLES[state])
    beyond = sum(stored.beyond[stage.key] for stage in stages)
    if beyond:
        text.append(f", {counted(beyond, 'worker')} below", style=_STYLES[StageState.RUNNING])
    return text


def tree_to_json(replayed: Replayed, stored: StoredTree) -> dict[str, Any]:
    """The document of ``hippo tree -o json``: stages as ``hippo plan`` has them, and their
    states.
    """
    return {
        **identity_to_json(replayed),
        "workers": stored.workers,
        "stages": [
            {
                "key": stage.key,
                "parent": stage.parent,
                "start": stage.start,
                "end": stage.end,
                "hyperparameters": stage.node.sequence.values(stage.start) if stage.steps else {},
                "trials": [f"{study}-{index}" for study, index in stage.trials],
                "state": str(stored.states[stage.key]),
                "isStored": stage.key in stored.stored,
                "position": stored.positions.get(stage.key),
                "workersBeyond": stored.beyond[stage.key],
            }
            for stage in stored.stages
        ],
    }
