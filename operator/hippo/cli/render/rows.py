"""Rows that fit any width: as a table if possible, else with long texts below their rows, else as a
block for each row.

Nothing is cut: text that is too wide continues on the next line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hippo.model.words import on_one_line

GAP = 2
MIN_FOLDED = 24
"""Minimum width of a folded text; below that, a block is easier to read."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    is_number: bool = False
    is_folded: bool = False  # a text that may take several lines


@dataclass(slots=True)
class Listing:
    """A renderable for rich. The first column identifies the row."""

    columns: list[Column]
    title: str = ""
    rows: list[tuple[list[Text], str]] = field(default_factory=list)

    def add(self, *cells: str, style: str = "") -> None:
        self.rows.append(([Text(on_one_line(cell)) for cell in cells], style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="italic", overflow="fold")
        if self._needed_width(MIN_FOLDED) <= options.max_width:
            yield self._table()
        elif self._needed_width(None) <= options.max_width:
            yield from self._stacked()
        else:
            yield from self._blocks()

    def _needed_width(self, folded: int | None) -> int:
        """Return a table's width with ``folded`` columns for each folded text; None: own lines."""
        total = -GAP
        for index, column in enumerate(self.columns):
            if not column.is_folded:
                total += self._width(index) + GAP
            elif folded is not None:
                total += min(self._width(index), folded) + GAP
        return total

    def _width(self, index: int) -> int:
        cells = [row[index].cell_len for row, _ in self.rows]
        return max([cell_len(self.columns[index].name), *cells])

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
        for column in self.columns:
            table.add_column(
                Text(on_one_line(column.name)),
                justify="right" if column.is_number else "left",
                no_wrap=not column.is_folded,
                overflow="fold",
            )
        for cells, style in self.rows:
            table.add_row(*cells, style=style or None)
        return table

    def _stacked(self) -> Iterator[Table | Text | Padding]:
        """Aligned rows, each with its texts below."""
        widths = [self._width(index) for index in range(len(self.columns))]

        def line(cells: list[str]) -> str:
            parts = [
                set_cell_size(cell, width) if not column.is_number else _right(cell, width)
                for column, cell, width in zip(self.columns, cells, widths, strict=True)
                if not column.is_folded
            ]
            return (" " * GAP).join(parts).rstrip()

        yield Text(line([on_one_line(column.name) for column in self.columns]), style="bold")
        for cells, style in self.rows:
            yield Text(line([cell.plain for cell in cells]), style=style)
            yield from self._texts(cells, style)

    def _blocks(self) -> Iterator[Text | Padding]:
        for cells, style in self.rows:
            first = self.columns[0]
            head = f"{first.name} {cells[0].plain}" if first.is_number else cells[0].plain
            yield Text(head or "-", style=style or "bold", overflow="fold")
            short = [
                f"{column.name} {cell.plain}" if column.name else cell.plain
                for column, cell in zip(self.columns[1:], cells[1:], strict=True)
                if cell.plain and not column.is_folded
            ]
            if short:
                yield _indented(_joined(short), style)
            yield from self._texts(cells, style)

    def _texts(self, cells: list[Text], style: str) -> Iterator[Padding]:
        for column, cell in zip(self.columns, cells, strict=True):
            if column.is_folded and cell.plain and cell is not cells[0]:
                yield _indented(Text(f"{column.name}: {cell.plain}"), style)


def _right(cell: str, width: int) -> str:
    return " " * (width - cell_len(cell)) + cell


def _joined(parts: list[str]) -> Text:
    """Join parts so that lines break between them, not within them, if they fit into a line."""
    return Text(" " * GAP).join(Text(part.replace(" ", "\N{NO-BREAK SPACE}")) for part in parts)


def _indented(text: Text, style: str) -> Padding:
    text.overflow = "fold"
    if style:
        text.stylize_before(style)
    return Padding(text, (0, 0, 0, GAP))
