"""The result of a check, and the commands that fix what it found."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from enum import Enum

DISTRIBUTION = "lm-eval-polyrefuse"


class State(str, Enum):
    """The state of what was checked."""

    OK = "ok"
    WARNING = "warning"
    """Everything else works without it."""
    UNKNOWN = "unknown"
    """It could not be checked, for example without a network."""
    MISSING = "missing"
    """It is needed, and it is absent or broken."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: the name of the check.
        state: the state of what was checked.
        seen: what was found, in one line.
        mend: the command that fixes it; None if nothing has to be done.
    """

    name: str
    state: State
    seen: str
    mend: str | None = None


def pip_install(*arguments: str) -> str:
    """Return the command that installs something into the environment that is checked."""
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


def reinstall() -> str:
    """Return the command that installs this package again, from where it was installed."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    source = [DISTRIBUTION]
    try:
        told = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        told = {}
    url = urlsplit(told.get("url", ""))
    if url.scheme == "file":
        editable = told.get("dir_info", {}).get("editable", False)
        source = [*(["-e"] if editable else []), unquote(url.path)]
    elif url.scheme:
        source = [told["url"]]
    return pip_install("--force-reinstall", "--no-deps", *source)
