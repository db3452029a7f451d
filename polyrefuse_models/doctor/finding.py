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
    """It is absent or unusual, but everything else works without it."""
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
        mend: the command that fixes the problem; None if nothing has to be done.
    """

    name: str
    state: State
    seen: str
    mend: str | None = None


def pip_install(*arguments: str) -> str:
    """Return the command that runs `pip install` in the environment that is checked."""
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


def reinstall() -> str:
    """Return the command that installs this package again from where it came from."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlsplit

    source = [DISTRIBUTION]
    try:
        record = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        record = {}
    url = urlsplit(record.get("url", ""))
    if url.scheme == "file":
        editable = record.get("dir_info", {}).get("editable", False)
        source = [*(["-e"] if editable else []), unquote(url.path)]
    elif url.scheme:
        source = [record["url"]]
    return pip_install("--force-reinstall", "--no-deps", *source)
