"""The option that every sub-command which prints a result takes, and how it prints it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def show(as_json: bool, result: Any, *lines: str, allow_nan: bool = True) -> None:
    """Print a result for programs, or `lines` for people.

    Args:
        as_json: print the result.
        result: what JSON can hold.
        lines: for people.
        allow_nan: whether the result may hold NaN, which other readers of JSON refuse.

    Raises:
        ValueError: it holds NaN that is not allowed.
    """
    if as_json:
        print(json.dumps(result, ensure_ascii=False, allow_nan=allow_nan))
    else:
        print("\n".join(lines))
