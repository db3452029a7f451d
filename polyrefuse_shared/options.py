"""The options that sub-commands share, and the printing of a result."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from polyrefuse_shared.limits import MOST, MOST_SEED
from polyrefuse_shared.printing import clean_json

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def count_option(name: str, *, at_least: int = 1, **about: Any) -> Any:
    """Return an option whose value is a count."""
    return typer.Option(name, min=at_least, max=MOST, **about)


def seed_option(help: str) -> Any:
    """Return the option --seed."""
    return typer.Option("--seed", min=0, max=MOST_SEED, help=help)


def show(as_json: bool, result: Any, *lines: str, allow_nan: bool = True) -> None:
    """Print a result as JSON, or print `lines` for people.

    Args:
        as_json: whether to print JSON.
        result: a value that JSON can hold.
        lines: the lines for people.
        allow_nan: whether the result may contain NaN, which other readers of JSON refuse.

    Raises:
        ValueError: the result contains NaN although it is not allowed.
    """
    if as_json:
        print_json(result, allow_nan=allow_nan)
    else:
        print("\n".join(lines))


def print_json(result: Any, *, allow_nan: bool = True, indent: int | None = None) -> None:
    """Print one JSON document, with escapes for characters that standard output cannot encode.

    Raises:
        ValueError: the result contains NaN although it is not allowed.
    """
    text = json.dumps(result, ensure_ascii=False, allow_nan=allow_nan, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(result, allow_nan=allow_nan, indent=indent)
    print(clean_json(text))
