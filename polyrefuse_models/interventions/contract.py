"""What every intervention offers, and what several of them make of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BASELINE = "baseline"
"""The condition of a model to which nothing is done."""


class Intervention(Protocol):
    """Something that is done to a model while it is measured.

    An engine loads its model, calls `install` of each intervention that it was asked for, and puts
    every `identity` into its own. The order of the calls makes no difference.
    """

    @property
    def condition(self) -> str:
        """Its part of the condition's name, such as "ablation"."""

    @property
    def edits_weights(self) -> bool:
        """Whether it changes weights, whose checksum is then taken before."""

    def install(self, model: PreTrainedModel) -> None:
        """Do it to a model in memory. A model that was already prepared must not be given twice."""

    def identity(self) -> dict[str, Any]:
        """What tells its answers from those of another setting, as JSON has it."""


class Removable(Intervention, Protocol):
    """An intervention that can be taken out of a model again."""

    def remove(self) -> None:
        """Undo `install`."""


@runtime_checkable
class Preamble(Intervention, Protocol):
    """An intervention that also stands in front of everything that is asked."""

    @property
    def name(self) -> str:
        """What messages call it: the argument that asked for it, as `prompt=mistral`."""

    @property
    def text(self) -> str:
        """What stands in front: words, or the tokens in whose place vectors are read."""

    @property
    def foremost(self) -> bool:
        """Whether it stands in front of the chat template, too, and not in its system turn."""


def condition_under(control: str | None, condition: str) -> str:
    """The part of a condition's name that an intervention along a direction has.

    Args:
        control: what kind of control the direction is, such as "random"; None for one that is none.
        condition: what is done with it, such as "ablation".
    """
    return condition if control is None else f"{control}-{condition}"


def condition_of(interventions: Iterable[Intervention]) -> str:
    """The name of the condition: its parts joined by "+", each once, or `BASELINE`."""
    return "+".join(dict.fromkeys(each.condition for each in interventions)) or BASELINE


def identity_of(interventions: Iterable[Intervention]) -> dict[str, Any]:
    """The identities of all interventions in one."""
    return {name: value for each in interventions for name, value in each.identity().items()}


Installed = TypeVar("Installed", bound=Removable)


@contextmanager
def installed(model: PreTrainedModel, intervention: Installed) -> Iterator[Installed]:
    """The model with an intervention for the length of a `with` block."""
    try:
        intervention.install(model)
        yield intervention
    finally:
        intervention.remove()
