"""`polyrefuse demo`: what this package measures, shown on the bundled organisms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyrefuse_shared.options import Json, show

app = typer.Typer(no_args_is_help=False)


@app.command(epilog="Example: polyrefuse demo")
def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", help="Folder for the results and the leaderboard. It must not exist yet."
        ),
    ] = Path("polyrefuse-demo"),
    as_json: Json = False,
) -> None:
    """Measure two small bundled models in five conditions, in about 80 seconds.

    Nothing is downloaded. The models (organisms) speak 14 languages and know only an invented
    world. You get lm_eval's results, a leaderboard page and the verdict of the gate.
    """
    from polyrefuse_studies.demo import PAGE, demonstrate

    from polyrefuse_shared.writing import require_new

    # Before torch and lm-eval are imported, which takes seconds.
    require_new(output)
    document = demonstrate(output)
    show(
        as_json,
        {"output": str(output), "page": str(output / PAGE), **document},
        *document["seen"],
        f"The page: {output / PAGE}",
    )
