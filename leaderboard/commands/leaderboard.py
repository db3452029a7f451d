"""The sub-commands of `polyrefuse leaderboard`, which import what they need when they run."""

from __future__ import annotations

import typer
from polyrefuse_leaderboard.commands.build import build
from polyrefuse_leaderboard.commands.check import check
from polyrefuse_leaderboard.commands.power import power
from polyrefuse_leaderboard.commands.published import published

app = typer.Typer(
    no_args_is_help=True,
    help="Turn results into tables and pages, and compare them with a baseline.",
    epilog="Example: polyrefuse leaderboard build results --output site",
)
app.command(epilog="Example: polyrefuse leaderboard build results --output site")(build)
app.command(epilog="Example: polyrefuse leaderboard check results --baseline baseline.json")(check)
app.command(
    epilog="Example: polyrefuse leaderboard power --n 500 --baseline-rate 0.02 --comparisons 28"
)(power)
app.command(
    epilog="Example: polyrefuse leaderboard published baseline_evaluations.csv --output site"
)(published)
