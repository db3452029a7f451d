"""The processes that measure one model together, each a share of its prompts.

`accelerate launch` starts them. Each process loads the whole model and has a rank. This module does
what one process does for all, and checks what all have to agree on. A model that only one process
measures is `ALONE`.
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
"""The attribute of an error that all ranks know of."""

_SPLIT = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
"""accelerate's names of the kinds of processes that share one model's weights."""


class Disagreement(UserError):
    """Processes that would not measure the same model."""


@dataclass(frozen=True)
class Ranks:
    """One of the processes, and how many there are.

    Attributes:
        own: the rank of this process, counted from 0 over all machines.
        count: the number of processes.
    """

    own: int = 0
    count: int = 1

    def first(self, make: Callable[[], T]) -> T:
        """Have rank 0 make something for every rank, while the others wait for it.

        The result is sent from process to process, so that no disk has to be shared or writable.

        Args:
            make: a function that is called on rank 0 alone. What it returns is pickled.

        Raises:
            UserError: rank 0 failed. The others fail with its message, so that none keeps waiting.
        """
        return self._together(make if self.own == 0 else _nothing)[0]

    def agree(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Refuse to measure if the ranks have loaded different things.

        Args:
            make: prepares this rank's model and returns its `identity.identity`.

        Raises:
            Disagreement: ranks differ. Every rank raises it, with what differs and the values.
            UserError: a rank failed. The others fail with its message, so that none keeps waiting.
        """
        if sentence := disagreement(self._together(make)):
            raise Disagreement(sentence)

    def _together(self, make: Callable[[], T]) -> list[T]:
        """Return on every rank what each rank makes.

        If one rank fails, all end: that rank with its error, and the others with a sentence. Ranks
        only meet in this exchange, so that a rank that fails meets the others wherever they wait.
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
                raise  # An exchange within `make` has told all ranks, and none waits here.
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
        """Return the message with which the other ranks report an error on this one."""
        if isinstance(error, UserError):
            return str(error)
        what = first_line(error) if isinstance(error, Exception) else type(error).__name__
        return (
            f"Rank {self.own} failed while the others waited for it: {type(error).__name__}: {what}"
        )


ALONE = Ranks()


def prepare(device: object) -> None:
    """Have accelerate join several processes on CPUs too.

    Without a GPU it takes each process for the only one, and each would measure everything.

    Args:
        device: the device that was asked for, whether it exists or not.
    """
    import torch

    several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    if several and (str(device) == "cpu" or not torch.accelerator.is_available()):
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")


def ranks_of(accelerator: Any | None) -> Ranks:
    """Return the ranks that accelerate knows of.

    Args:
        accelerator: HFLM's accelerator; None if one process measures the model.

    Raises:
        UserError: no rank has a whole model, which hooks, edits and `Ranks.first` need.
    """
    if accelerator is None:
        return ALONE
    if (kind := accelerator.distributed_type.value) in _SPLIT:
        raise UserError(
            f"accelerate was told to split the model among its processes ({kind}), but each of "
            "them needs the whole model; start `accelerate launch --multi_gpu` without that, or "
            "one process with parallelize=True for a model that does not fit one GPU."
        )
    # lm-eval takes the rank within a machine, or none if the machine has fewer than two GPUs.
    return Ranks(accelerator.process_index, accelerator.num_processes)


def own_number(number: Num[Tensor, "..."], ranks: Ranks) -> Num[Tensor, "rank"]:
    """Answer lm-eval's `all_gather` as if every rank had this rank's number.

    lm-eval uses it to give all ranks the same number of requests, which only a model needs that is
    itself split among the processes. It pads the ranks that have fewer with copies of a request,
    and then counts their answers as more answers to the same prompt. Here every rank works through
    its own requests by itself.

    Args:
        number: the number of requests of a task or of windows, or the batch size that fits.
        ranks: the ranks.
    """
    return number.reshape(1).expand(ranks.count).clone()


def in_order(gathered: Sequence[Any]) -> Any:
    """Put what lm-eval gathered from several ranks into the order of a single process.

    lm-eval deals a task's documents out in turn, and chains what comes back rank by rank. Samples
    would be in another order, and so would the draws of its bootstrap.

    Args:
        gathered: an object for each rank, in the order of ranks: lists in a dictionary of tasks,
            of samples or, one level deeper, of values.
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
    """Return a sentence on what differs between ranks; None if nothing does.

    Weights that only the times of their files identify are not compared, because copies of the same
    files differ in these.

    Args:
        identities: the identities of rank 0, 1, and so on.
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
        f"The processes would not measure the same model: {'; '.join(differing)}. Give each of "
        "them the same files."
    )


def _nothing() -> Any:
    """Return nothing, which is what a rank contributes if another one makes the result."""


def _named(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _filter(item: Any) -> Any:
    """Return the filter of a sample, as lm-eval logs them one after the other; None of a value."""
    return item.get("filter") if isinstance(item, Mapping) else None
