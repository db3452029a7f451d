"""The processes that measure one model together, each some of its prompts (`accelerate launch`).

Each loads the whole model and is known by its rank. What one does for all, and what all must agree
on, goes through here; a model that no other process measures is `ALONE`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from polyrefuse_models.weights import UNPROVED
from polyrefuse_models.wrappers.response_cache import flat, short
from polyrefuse_shared.errors import UserError, first_line

if TYPE_CHECKING:
    from jaxtyping import Num
    from torch import Tensor

T = TypeVar("T")

_NOTHING = object()

_TOLD = "polyrefuse_told_to_all_ranks"
"""An attribute of an error that every rank ends with."""

_SPLIT = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
"""Kinds of processes that share one model's weights, as accelerate calls them."""


class Disagreement(UserError):
    """Processes that would not measure the same."""


@dataclass(frozen=True)
class Ranks:
    """One of the processes, and how many there are.

    Attributes:
        own: its rank, counted from 0 over all machines.
        count: all of them.
    """

    own: int = 0
    count: int = 1

    def first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, for every rank; the others wait for it.

        It travels from process to process: no disk has to be shared, or be writable.

        Args:
            make: is called on rank 0 alone. What it returns is pickled.

        Raises:
            UserError: rank 0 failed, with its sentence on the others too, so that none waits on.
        """
        return self._together(make if self.own == 0 else _nothing)[0]

    def agree(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Refuse to measure on ranks that have loaded different things.

        Args:
            make: gets this rank's model ready, and returns what `identity.identity` has of it.

        Raises:
            Disagreement: what differs, with the ranks and their values, on every rank.
            UserError: a rank failed, with its sentence on the others too, so that none waits on.
        """
        if sentence := disagreement(self._together(make)):
            raise Disagreement(sentence)

    def _together(self, make: Callable[[], T]) -> list[T]:
        """What each rank makes, on every rank.

        Where one fails, all end: it with its error, and the others with a sentence. Ranks meet in
        this one exchange alone, so that one which fails meets the others wherever they wait.
        """
        if self.count == 1:
            return [make()]
        import torch.distributed as processes

        made: T | None = None
        failed: BaseException | None = None
        try:
            made = make()
        except BaseException as error:
            if hasattr(error, _TOLD):
                raise  # An exchange within `make` has told all of them, and none waits here.
            failed = error
        every: list[Any] = [None] * self.count
        said = None if failed is None else self._sentence(failed)
        processes.all_gather_object(every, (made, said))
        sentences = [said for _, said in every if said is not None]
        if sentences:
            if failed is None:
                failed = UserError(sentences[0])
            setattr(failed, _TOLD, True)
            raise failed
        return [made for made, _ in every]

    def _sentence(self, error: BaseException) -> str:
        """What the other ranks say of an error on this one."""
        if isinstance(error, UserError):
            return str(error)
        what = first_line(error) if isinstance(error, Exception) else type(error).__name__
        return (
            f"Rank {self.own} failed while the others waited for it: {type(error).__name__}: {what}"
        )


ALONE = Ranks()


def prepare(device: object) -> None:
    """Have accelerate join several processes on CPUs, too.

    Where it finds no GPU it takes each of them for the only one, and all would measure everything.

    Args:
        device: that was asked for, there or not.
    """
    import torch

    several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    if several and (str(device) == "cpu" or not torch.accelerator.is_available()):
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")


def ranks_of(accelerator: Any | None) -> Ranks:
    """The ranks that accelerate knows of.

    Args:
        accelerator: as HFLM keeps it, which has none where a model is measured by one process.

    Raises:
        UserError: no rank has a whole model, as hooks, edits and `Ranks.first` need.
    """
    if accelerator is None:
        return ALONE
    if (kind := accelerator.distributed_type.value) in _SPLIT:
        raise UserError(
            f"accelerate was told to split the model among its processes ({kind}), and each of "
            "them needs the whole model here; start `accelerate launch --multi_gpu` without it, or "
            "one process with parallelize=True for a model that does not fit one GPU."
        )
    # lm-eval takes the rank within a machine, and none without a second GPU on it.
    return Ranks(accelerator.process_index, accelerator.num_processes)


def own_number(number: Num[Tensor, "..."], ranks: Ranks) -> Num[Tensor, "rank"]:
    """The answer to lm-eval's `all_gather`: as if every rank had this one's number.

    lm-eval asks for it to make ranks equal, which only models need that are themselves split among
    the processes: it pads the shorter ones with copies of a request, whose answers it then counts
    as more answers to the same prompt. Here every rank works through its own requests by itself.

    Args:
        number: of requests of a task, of windows, or the batch size that fits.
    """
    return number.reshape(1).expand(ranks.count).clone()


def in_order(gathered: Sequence[Any]) -> Any:
    """What a single process would have, of what lm-eval gathered from several.

    lm-eval deals a task's documents out in turn, and chains what comes back rank by rank: samples
    would be in another order, and so would the draws of its bootstrap.

    Args:
        gathered: one object a rank, the first rank's first: lists in a dictionary of tasks, of
            samples or, one level deeper, of values.
    """
    first = gathered[0]
    if isinstance(first, Mapping):
        keys = dict.fromkeys(key for each in gathered for key in each)
        return {key: in_order([each[key] for each in gathered if key in each]) for key in keys}
    filters = dict.fromkeys(_filter(item) for each in gathered for item in each)
    return [
        item
        for name in filters
        for turn in zip_longest(
            *([item for item in each if _filter(item) == name] for each in gathered),
            fillvalue=_NOTHING,
        )
        for item in turn
        if item is not _NOTHING
    ]


def disagreement(identities: Sequence[Mapping[str, Any]]) -> str | None:
    """A sentence on what differs between ranks; None where nothing does.

    Weights that a rank can tell by the times of their files alone are not compared: copies of the
    same files differ in them.

    Args:
        identities: of rank 0, 1, ...
    """
    every = [flat(identity) for identity in identities]
    if any(str(each.get("weights")).startswith(UNPROVED) for each in every):
        every = [{key: each[key] for key in each if key != "weights"} for each in every]
    differing = []
    for key in sorted({key for each in every for key in each}):
        where: dict[str, list[int]] = {}
        for rank, each in enumerate(every):
            where.setdefault(short(each.get(key)), []).append(rank)
        if len({repr(each.get(key)) for each in every}) > 1:
            values = ", ".join(f"{value} on {_named(ranks)}" for value, ranks in where.items())
            differing.append(f"{key} is {values}")
    if not differing:
        return None
    return (
        f"The processes would not measure the same: {'; '.join(differing)}. Give each of them the "
        "same files."
    )


def _nothing() -> Any:
    """What a rank has to give where another one makes it."""


def _named(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _filter(item: Any) -> Any:
    """The filter of a sample, which lm-eval logs one after the other; None of a value."""
    return item.get("filter") if isinstance(item, Mapping) else None
