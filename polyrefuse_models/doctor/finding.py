"""What a check finds, and how commands that mend it are written."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from enum import Enum

DISTRIBUTION = "lm-eval-polyrefuse"


class State(str, Enum):
    """How it stands with what was checked."""

    OK = "ok"
    WARNING = "warning"
    """Everything else works without it."""
    UNKNOWN = "unknown"
    """It could not be looked at, as without a network."""
    MISSING = "missing"
    """It is needed, and absent or broken."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check.
        state: how it stands.
        seen: what was found, in one line.
        mend: the command that mends it; None where nothing has to be done.
    """

    name: str
    state: State
    seen: str
    mend: str | None = None


def pip_install(*arguments: str) -> str:
    """The command that installs something into the environment that is looked at."""
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


def reinstall() -> str:
    """The command that installs this package again, from where it was installed."""
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
