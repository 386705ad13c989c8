"""The command and its subcommands."""

from __future__ import annotations

import typer

from gaslayers.cli.cost import cost
from gaslayers.cli.fit import fit
from gaslayers.cli.info import info
from gaslayers.cli.study import report, study
from gaslayers.cli.sweep import sweep

app = typer.Typer(
    help="Discriminator layers for GANs on limited memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (study, sweep, report, cost, fit, info):
    app.command()(command)
