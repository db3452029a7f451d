"""The option that every sub-command which prints a result takes, and how it prints it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def show(as_json: bool, result: Any, *lines: str) -> None:
    """Print a result for programs, or `lines` for people."""
    print(json.dumps(result, ensure_ascii=False) if as_json else "\n".join(lines))
