"""Which system text a model gets: its template's own, none, or a file's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import read_bytes

AT_MOST = 2**20
"""Bytes of a system file, at most."""


class BadSystem(UserError):
    """A system text that cannot be had."""


@dataclass(frozen=True)
class System:
    """The system text that was asked for.

    Attributes:
        kind: "template" leaves the template's own text, where it inserts one; "none" takes that
            away; "file" puts the text of a file into the system turn.
        text: the file's.
        path: the file, as it was named.
    """

    kind: Literal["template", "none", "file"] = "template"
    text: str | None = None
    path: str | None = None

    @property
    def sha256(self) -> str | None:
        """Checksum of the file's text."""
        return None if self.text is None else checksum(self.text)

    def identity(self, inserted: str | None) -> dict[str, Any]:
        """What results and artifacts say of it.

        Args:
            inserted: what the template inserts by itself, as it is rendered.
        """
        text = inserted if self.text is None else self.text
        return {"system": self.kind, "system_text": text, "system_sha256": self.sha256}


def checksum(text: str) -> str:
    """sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_system(kind: str | None = "template", file: str | Path | None = None) -> System:
    """What `system=` and `system_file=` name.

    Args:
        kind: "template" or "none"; None, which lm-eval makes of the word, is "none" too.
        file: with the text of a system turn, in UTF-8; blank space around it is left out, as most
            templates do.

    Raises:
        BadSystem: an unknown kind, both, or a file that is missing, empty or not UTF-8.
    """
    kind = "none" if kind is None else kind
    if kind not in ("template", "none"):
        raise BadSystem(
            f"system={kind} is not known; use system=template or system=none, and "
            "system_file=FILE for a text of your own."
        )
    if file is None:
        return System("none" if kind == "none" else "template")
    if kind == "none":
        raise BadSystem(
            f"system=none asks for no system text and the system file {file} for one; give one of "
            "them."
        )
    if not str(file).strip():
        raise BadSystem("system_file names no file; give one, or leave it out.")
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
