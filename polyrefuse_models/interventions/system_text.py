"""A system text: words in front of everything that is asked."""

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
        name: what messages call it: the argument that asked for it, as `prompt=mistral`.
        text: the words.
        provenance: what `identity` says of them.
    """

    name: str
    text: str
    provenance: Mapping[str, Any]

    condition = "system-prompt"
    edits_weights = False
    foremost = False

    def install(self, model: PreTrainedModel) -> None:
        """Nothing is done to the model itself: the words come with every prompt."""

    def identity(self) -> dict[str, Any]:
        """Which text it is."""
        return dict(self.provenance)
