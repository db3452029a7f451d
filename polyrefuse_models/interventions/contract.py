"""The contract of an intervention, and the condition that several of them make together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASELINE = "baseline"
"""The name of the condition in which nothing is done to the model."""


class Intervention(Protocol):
    """A change of a model in memory while it is measured.

    An engine loads its model, calls the `install` of each intervention that it was asked for, and
    adds each `identity` to its own. The order of the calls makes no difference.
    """

    @property
    def condition(self) -> str:
        """The intervention's part of the condition's name, such as "ablation"."""

    @property
    def edits_weights(self) -> bool:
        """Whether it changes weights. If so, the engine takes their checksum before `install`."""

    def install(self, model: PreTrainedModel) -> None:
        """Change a model in memory. Do not call it twice for the same model."""

    def identity(self) -> dict[str, Any]:
        """Return, in values that JSON can hold, all settings that its answers depend on."""


class Removable(Protocol):
    """Something that can be put into a model and removed again: an intervention or an observer."""

    def install(self, model: PreTrainedModel) -> None:
        """Change or watch a model. Do not call it twice for the same model."""

    def remove(self) -> None:
        """Undo `install`."""


@runtime_checkable
class Preamble(Intervention, Protocol):
    """An intervention that also puts a text in front of every prompt."""

    @property
    def name(self) -> str:
        """Its name in messages: the argument that asked for it, such as `prompt=mistral`."""

    @property
    def text(self) -> str:
        """The text in front of the prompt: words, or tokens that the model reads as vectors."""

    @property
    def foremost(self) -> bool:
        """Whether the text stands in front of the whole chat, and not in its system turn."""


def condition_under(control: str | None, condition: str) -> str:
    """Return an intervention's part of the condition's name, with the kind of its control.

    Args:
        control: the kind of control that the direction is, such as "random"; None for the refusal
            direction itself.
        condition: what is done with the direction, such as "ablation".
    """
    return condition if control is None else f"{control}-{condition}"


def condition_of(interventions: Iterable[Intervention]) -> str:
    """Return the name of the condition: its parts, each once, joined by "+"; or `BASELINE`."""
    return "+".join(dict.fromkeys(each.condition for each in interventions)) or BASELINE


def identity_of(interventions: Iterable[Intervention]) -> dict[str, Any]:
    """Return the identities of all interventions in one dictionary."""
    return {name: value for each in interventions for name, value in each.identity().items()}


Installed = TypeVar("Installed", bound=Removable)


@contextmanager
def installed(model: PreTrainedModel, what: Installed) -> Iterator[Installed]:
    """Install an intervention or an observer for the length of a `with` block."""
    try:
        what.install(model)
        yield what
    finally:
        what.remove()
