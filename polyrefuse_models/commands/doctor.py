"""`polyrefuse doctor`: check the installation, and print the commands that fix it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from polyrefuse_shared.options import Json, show
from polyrefuse_shared.printing import clean

app = typer.Typer(no_args_is_help=True)


@app.command(epilog="Example: polyrefuse doctor")
def doctor(as_json: Json = False) -> None:
    """Check this installation, and print the command that fixes what does not work.

    The exit code is 1 if something that is needed is missing.
    """
    from polyrefuse_models.doctor.checks import findings
    from polyrefuse_models.doctor.finding import State

    found = []
    for one in findings():
        found.append(one)
        if not as_json:
            mend = f"; to fix this, run: {one.mend}" if one.mend else ""
            print(clean(f"{one.state.value:<8} {one.name}: {one.seen}{mend}"), flush=True)
    missing = any(one.state is State.MISSING for one in found)
    if as_json:
        document = {"ok": not missing, "checks": [asdict(one) for one in found]}
        show(True, document)
    if missing:
        raise typer.Exit(1)
