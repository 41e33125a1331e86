"""The ``hippo`` command. Results on standard output; progress and messages on standard error."""

from __future__ import annotations

from typing import Annotated

import typer

from hippo.cli import store
from hippo.cli.crds import crds
from hippo.cli.export import export
from hippo.cli.logs import logs
from hippo.cli.operator import operate
from hippo.cli.plan import plan
from hippo.cli.render.output import print_lines
from hippo.cli.results import results
from hippo.cli.run import run
from hippo.cli.simulate import simulate
from hippo.cli.tree import tree
from hippo.cli.verify import verify
from hippo.protocol.compatibility import own_version

app = typer.Typer(
    name="hippo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if not is_asked:
        return
    print_lines(f"hippo {own_version() or '(not installed)'}\n")
    raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Train hyper-parameter studies through a stage tree: every shared prefix once."""


for command in (run, plan, simulate, verify, export, results, tree, logs):
    app.command()(command)
app.add_typer(store.app)
app.command("operator")(operate)
app.command()(crds)
