"""The stage tree in a terminal: what is shared, where trials diverge, and how they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as List
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from hippo.cli.render.numbers import describe_briefly, digits_for
from hippo.model import Value
from hippo.model.words import counted
from hippo.plan import Stage, TrialId

MIN_DIGITS = 4
GUIDE_CELLS = 4  # of rich's trees, for each level
MIN_LABEL_CELLS = 28
MAX_LINES = 40
MAX_SIBLINGS = 6
BAR_CELLS = 24


@dataclass(slots=True)
class _Branch:
    """Stages in a row, without a fork between them."""

    stages: list[Stage]
    children: list[_Branch] = field(default_factory=list)
    trials: set[TrialId] = field(default_factory=set)  # that end or are compared here or below
    steps_below: int = 0

    @property
    def start(self) -> int:
        return self.stages[0].start

    @property
    def end(self) -> int:
        return self.stages[-1].end


Tell = Callable[[List[Stage]], Text]
"""Additional text for a branch: consecutive stages without a fork between them."""


def draw_stage_tree(
    stages: List[Stage], *, max_lines: int = MAX_LINES, tell: Tell | None = None
) -> StageDrawing:
    """Return a tree of branches; the bar is each branch's share of the critical path."""
    roots = _branches(stages)
    longest = max((stage.end for stage in stages), default=1)
    tree = Tree(Text("stage tree", style="bold"), guide_style="dim")
    _Drawing(longest, max_lines, tell).add_all(tree, roots, {})
    return StageDrawing(tree)


@dataclass(frozen=True, slots=True)
class StageDrawing:
    """A renderable of rich: a tree, or where that is too deep for the width, an indented list."""

    tree: Tree

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = list(_lines_of(self.tree, 0))
        depth = max(depth for depth, _ in lines)
        if GUIDE_CELLS * depth + MIN_LABEL_CELLS <= options.max_width:
            yield self.tree
            return
        most = max(0, options.max_width - MIN_LABEL_CELLS)
        for depth, label in lines:
            label.overflow = "fold"
            yield Padding(label, (0, 0, 0, min(depth, most)))


def _lines_of(tree: Tree, depth: int) -> Iterator[tuple[int, Text]]:
    assert isinstance(tree.label, Text)
    yield depth, tree.label
    for child in tree.children:
        yield from _lines_of(child, depth + 1)


def _branches(stages: List[Stage]) -> list[_Branch]:
    """Join consecutive stages; parents come before children in ``stages``."""
    children: dict[str, list[Stage]] = {}
    roots: list[Stage] = []
    for stage in stages:
        if stage.parent is None:
            roots.append(stage)
        else:
            children.setdefault(stage.parent, []).append(stage)
    built: list[_Branch] = []
    pending: list[tuple[Stage, _Branch | None]] = [(stage, None) for stage in roots]
    top: list[_Branch] = []
    while pending:
        stage, parent = pending.pop()
        branch = _Branch([stage])
        while len(following := children.get(branch.stages[-1].key, [])) == 1:
            branch.stages.append(following[0])
        (top if parent is None else parent.children).append(branch)
        built.append(branch)
        pending.extend((child, branch) for child in following)
    for branch in reversed(built):
        branch.trials.update(trial for stage in branch.stages for trial in stage.trials)
        branch.steps_below = sum(stage.steps for stage in branch.stages)
        for child in branch.children:
            branch.trials |= child.trials
            branch.steps_below += child.steps_below
        branch.children.sort(key=lambda child: (-len(child.trials), child.start, min(child.trials)))
    return sorted(top, key=lambda branch: (-len(branch.trials), min(branch.trials)))


def _names_that_part(branches: list[_Branch]) -> list[str]:
    """Return the hyper-parameters in which sibling branches differ at their first step."""
    rows = [b.stages[0].node.sequence.values(b.start) for b in branches if b.end > b.start]
    return (
        [name for name in rows[0] if len({str(row.get(name)) for row in rows}) > 1] if rows else []
    )


@dataclass(slots=True)
class _Drawing:
    longest: int
    lines_left: int
    tell: Tell | None

    def add_all(self, tree: Tree, branches: list[_Branch], known: dict[str, Value]) -> None:
        shown = 0
        digits = _digits_that_tell(branches)
        for branch in branches:
            if shown >= MAX_SIBLINGS or self.lines_left <= 0:
                break
            shown += 1
            self.lines_left -= 1
            values = branch.stages[0].node.sequence.values(branch.start)
            differs = {name: value for name, value in values.items() if known.get(name) != value}
            if not differs and len(branches) > 1:
                # It continues unchanged: label it with what its siblings change.
                differs = {name: values[name] for name in _names_that_part(branches)}
            below = tree.add(self._label(branch, differs, digits))
            if branch.children:
                end = branch.end
                before = branch.stages[-1].node.sequence.values(end - 1) if end else {}
                self.add_all(below, branch.children, before)
        rest = branches[shown:]
        if rest:
            steps = sum(branch.steps_below for branch in rest)
            trials = len(set().union(*(branch.trials for branch in rest)))
            branches_left = counted(len(rest), "more branch", "more branches")
            told = f"{branches_left}: {counted(trials, 'trial')}, {counted(steps, 'step')}"
            tree.add(Text(f"... {told}", style="dim"))

    def _label(self, branch: _Branch, differs: dict[str, Value], digits: int) -> Text:
        steps = branch.end - branch.start
        cells = max(1, round(BAR_CELLS * steps / self.longest)) if steps else 0
        shared = len(branch.trials)
        text = Text()
        text.append("━" * cells, style="green" if shared > 1 else "cyan")
        text.append(f" {branch.start}→{branch.end} ", style="bold")
        if shared > 1:
            text.append(f"{shared} trials", style="green")
        else:
            text.append("-".join(map(str, min(branch.trials))), style="cyan")
        stops = [stage.end for stage in branch.stages[:-1] if stage.trials]
        if stops:
            text.append(f", compared at {', '.join(map(str, stops))}", style="dim")
        if self.tell is not None:
            text.append_text(self.tell(branch.stages))
        if differs:
            told = (f"{n}={describe_briefly(v, digits)}" for n, v in sorted(differs.items()))
            text.append("  " + "  ".join(told))
        return text


def _digits_that_tell(branches: list[_Branch]) -> int:
    """Return the significant digits that distinguish the values of siblings, at least 4."""
    rows = [branch.stages[0].node.sequence.values(branch.start) for branch in branches]
    names = {name for row in rows for name in row}
    columns = ({row[name] for row in rows if isinstance(row.get(name), float)} for name in names)
    return max((digits_for(values, least=MIN_DIGITS) for values in columns), default=MIN_DIGITS)
