"""The options of the sub-commands that run a model: which model, and on which prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import count_option

AnyModel = Annotated[
    str | None,
    typer.Option("--model", help="Folder or hub name of the model; the bundled one by default."),
]
AnyDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Whose prompts are used; by default toyrefuse for a bundled model, else polyrefuse.",
    ),
]
Report = Annotated[Path, typer.Option("--output", help="A new folder for the report.")]
BatchSize = Annotated[
    int | None,
    count_option(
        "--batch-size",
        help="Rows in a forward pass. By default 128 on a GPU, or 64 where they do not fit into "
        "its memory, and 8 elsewhere. Where no answer is generated at least 8 are taken, and for 1 "
        "the default.",
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", help="Where the model runs; as lm-eval's --device.")
]
Dtype = Annotated[
    str, typer.Option("--dtype", help="The type of the weights; as lm-eval's dtype=.")
]
GgufFile = Annotated[
    str | None,
    typer.Option("--gguf-file", help="Name of a GGUF file in the model's folder or repository."),
]
System = Annotated[
    str,
    typer.Option(
        "--system",
        help="template keeps the system text that the chat template inserts by itself; none takes "
        "it away, as in arXiv 2505.17306.",
    ),
]
SystemFile = Annotated[
    str | None, typer.Option("--system-file", help="A file with the text of the system turn.")
]


def codes(option: str, given: str) -> list[str]:
    """Languages with commas between, each once.

    Raises:
        UserError: there is none.
    """
    languages = list(dict.fromkeys(code.strip() for code in given.split(",") if code.strip()))
    if not languages:
        raise UserError(f"{option} {given!r} names no language; give codes such as en,de.")
    return languages
