"""Choose the system text that a model gets: its template's own, none, or the text of a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import read_bytes

AT_MOST = 2**20
"""The largest size of a system file, in bytes."""


class BadSystem(UserError):
    """A system text that cannot be used."""


@dataclass(frozen=True)
class System:
    """The system text that was asked for.

    Attributes:
        kind: "template" keeps the text, if any, that the template inserts by itself; "none" removes
            it; "file" puts the text of a file into the system turn.
        text: the text of the file; None without a file.
        path: the file, as the user named it; None without a file.
    """

    kind: Literal["template", "none", "file"] = "template"
    text: str | None = None
    path: str | None = None

    @property
    def sha256(self) -> str | None:
        """The checksum of the file's text; None without a file."""
        return None if self.text is None else checksum(self.text)

    def identity(self, inserted: str | None) -> dict[str, Any]:
        """Return what results and artifacts record of the system text.

        Args:
            inserted: the text that the template inserts by itself, as rendered.
        """
        text = inserted if self.text is None else self.text
        return {"system": self.kind, "system_text": text, "system_sha256": self.sha256}


def checksum(text: str) -> str:
    """Return the sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_system(kind: str | None = "template", file: str | Path | None = None) -> System:
    """Read the system text that `system=` and `system_file=` ask for.

    Args:
        kind: "template" or "none". None means "none" too, because lm-eval turns the word into it.
        file: a UTF-8 file with the text of a system turn. Blank space around the text is removed,
            as most templates do.

    Raises:
        BadSystem: the kind is unknown, "none" and a file were both given, or the file is missing,
            empty or not UTF-8.
    """
    kind = "none" if kind is None else kind
    if kind not in ("template", "none"):
        raise BadSystem(
            f"system={kind} is not known; use system=template or system=none, or "
            "system_file=FILE for a text of your own."
        )
    if file is None:
        return System("none" if kind == "none" else "template")
    if kind == "none":
        raise BadSystem(
            f"system=none asks for no system text, but the system file {file} has one; give only "
            "one of them."
        )
    if not str(file).strip():
        raise BadSystem("system_file is empty; name a file, or leave system_file out.")
    try:
        text = read_bytes(Path(str(file)), AT_MOST).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise BadSystem(f"The system file {file} is not UTF-8; save it as UTF-8 text.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadSystem(f"The system file {file} cannot be read: {reason}.") from None
    if not text:
        raise BadSystem(f"The system file {file} is empty; write the system text into it.")
    return System("file", text, str(file))
