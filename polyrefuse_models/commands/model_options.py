"""Options that the sub-commands share which run a model: the model and its prompts."""

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
        help="Folder or hub name of the model. Default: polyrefuse-organism, the bundled model.",
    ),
]
AnyDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Dataset that the prompts come from, for example polyrefuse or one of your own. "
        "Default: toyrefuse for a bundled model, and polyrefuse for any other.",
    ),
]
Report = Annotated[
    Path, typer.Option("--output", help="Folder for the report. It must not exist yet.")
]
BatchSize = Annotated[
    int | None,
    count_option(
        "--batch-size",
        help="Prompts in one forward pass. Default: 128 on a GPU, halved where they do not fit "
        "into its memory, and 8 elsewhere. Steps that generate no answers take at least 8, and "
        "take the default for 1.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where the model runs, for example cpu or cuda:0. Default: a GPU where there is one.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="Number type of the weights, for example float32 or bfloat16; auto takes the "
        "checkpoint's own.",
    ),
]
GgufFile = Annotated[
    str | None,
    typer.Option(
        "--gguf-file", help="Name of a GGUF file in the folder or repository of the model."
    ),
]
System = Annotated[
    str,
    typer.Option(
        "--system",
        help="System turn of each conversation: template keeps the text that the chat template "
        "inserts by itself, and none removes it, as arXiv 2505.17306 does.",
    ),
]
SystemFile = Annotated[
    str | None,
    typer.Option("--system-file", help="File that holds the text of the system turn."),
]


def codes(option: str, given: str) -> list[str]:
    """Split a list of language codes at its commas, and keep each code once.

    Raises:
        UserError: the list is empty.
    """
    languages = list(dict.fromkeys(code.strip() for code in given.split(",") if code.strip()))
    if not languages:
        raise UserError(f"{option} {given!r} names no language; give codes such as en,de.")
    return languages
