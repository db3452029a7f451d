"""`polyrefuse leaderboard`: the sub-commands, each of which imports what it needs when it runs."""

from __future__ import annotations

import typer
from polyrefuse_leaderboard.commands.build import build
from polyrefuse_leaderboard.commands.check import check
from polyrefuse_leaderboard.commands.power import power
from polyrefuse_leaderboard.commands.published import published

app = typer.Typer(
    no_args_is_help=True, help="Turn results into tables and pages, and hold them to a baseline."
)
for command in (build, check, power, published):
    app.command()(command)
