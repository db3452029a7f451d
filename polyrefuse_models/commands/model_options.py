"""The options of the sub-commands that run a model: the model, the prompts and the device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.options import count_option

AnyModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Folder of the model, or its name on the hub. Default: the bundled organism.",
    ),
]
AnyDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Dataset of the prompts: polyrefuse, toyrefuse or one of your own. Default: toyrefuse "
        "for a bundled model, polyrefuse for any other.",
    ),
]
Report = Annotated[
    Path, typer.Option("--output", help="Folder for the report. It must not exist yet.")
]
BatchSize = Annotated[
    int | None,
    count_option(
        "--batch-size",
        help="Rows in a forward pass. Default: 128 on a GPU, or 64 if its memory is too small for "
        "128, and otherwise 8. Passes that generate no answers take at least 8; for them, 1 means "
        "the default.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where the model runs, for example cpu or cuda:0. Default: a GPU if there is one.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="Type of the weights: auto (as in the checkpoint), float32, bfloat16 or float16.",
    ),
]
GgufFile = Annotated[
    str | None,
    typer.Option(
        "--gguf-file", help="Name of the GGUF file to load from the model's folder or repository."
    ),
]
System = Annotated[
    str,
    typer.Option(
        "--system",
        help="Whether to keep the system text that the chat template inserts by itself (template) "
        "or to remove it, as in arXiv 2505.17306 (none).",
    ),
]
SystemFile = Annotated[
    str | None,
    typer.Option("--system-file", help="UTF-8 file with the text of the system turn."),
]


def codes(option: str, given: str) -> list[str]:
    """Split a list of languages at its commas, and keep each language once.

    Raises:
        UserError: no language is named.
    """
    languages = list(dict.fromkeys(code.strip() for code in given.split(",") if code.strip()))
    if not languages:
        raise UserError(f"{option} {given!r} names no language; give codes such as en,de.")
    return languages
