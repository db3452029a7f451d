"""A system text: words in front of every prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class SystemText:
    """Words in the system turn: a safety prompt in words, or the text of a file.

    Attributes:
        name: the text's name in messages: the argument that asked for it, such as `prompt=mistral`.
        text: the words.
        provenance: what `identity` says about the text.
    """

    name: str
    text: str
    provenance: Mapping[str, Any]

    condition = "system-prompt"
    edits_weights = False
    foremost = False

    def install(self, model: PreTrainedModel) -> None:
        """Do nothing to the model itself: the engine puts the words in front of every prompt."""

    def identity(self) -> dict[str, Any]:
        """Return what identifies the text."""
        return dict(self.provenance)
