"""The processes that measure one model together, each with a share of the prompts.

`accelerate launch` starts them. Each process loads the whole model and has a rank. This module has
one process do work for all, and checks what all have to agree on. If only one process measures a
model, its ranks are `ALONE`.
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
"""The attribute that marks an error that all ranks have been told about."""

_SPLIT = ("FSDP", "DEEPSPEED", "MEGATRON_LM")
"""accelerate's names for the ways to split one model's weights among processes."""


class Disagreement(UserError):
    """The processes would not measure the same model."""


@dataclass(frozen=True)
class Ranks:
    """The rank of this process, and the number of processes.

    Attributes:
        own: the rank of this process, counted from 0 over all machines.
        count: the number of processes.
    """

    own: int = 0
    count: int = 1

    def first(self, make: Callable[[], T]) -> T:
        """Have rank 0 make something for every rank, while the others wait for it.

        Processes send each other the result, so that no disk has to be shared or writable.

        Args:
            make: a function that is called on rank 0 alone. Its result is pickled.

        Raises:
            UserError: rank 0 failed. The others fail with its message, so that none keeps waiting.
        """
        return self._together(make if self.own == 0 else _nothing)[0]

    def agree(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Refuse to measure if the ranks have loaded different things.

        Args:
            make: a function that prepares this rank's model and returns its `identity.identity`.

        Raises:
            Disagreement: ranks differ. Every rank raises it, and the message has the differences.
            UserError: a rank failed. The others fail with its message, so that none keeps waiting.
        """
        if sentence := disagreement(self._together(make)):
            raise Disagreement(sentence)

    def _together(self, make: Callable[[], T]) -> list[T]:
        """Return, on every rank, what all ranks made.

        If one rank fails, all end: that rank with its error, and the others with a sentence. This
        exchange is the only place where ranks wait for each other, so a rank that fails reaches the
        others wherever they wait.
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
    """Make accelerate connect several processes on CPUs too.

    Without a GPU, accelerate would treat each process as the only one, and each would measure
    everything.

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
        UserError: no rank has the whole model, which hooks, edited weights and `Ranks.first` need.
    """
    if accelerator is None:
        return ALONE
    if (kind := accelerator.distributed_type.value) in _SPLIT:
        raise UserError(
            f"accelerate is set to split the model among its processes ({kind}), but each of them "
            "needs the whole model; start `accelerate launch --multi_gpu` without that setting, or "
            "one process with parallelize=True for a model that does not fit on one GPU."
        )
    # lm-eval uses the rank within a machine, or none if the machine has fewer than two GPUs.
    return Ranks(accelerator.process_index, accelerator.num_processes)


def own_number(number: Num[Tensor, "..."], ranks: Ranks) -> Num[Tensor, "rank"]:
    """Answer lm-eval's `all_gather` as if every rank had this rank's number.

    lm-eval uses it to give all ranks the same number of requests. Only a model that is itself split
    among the processes needs this. lm-eval pads the ranks that have fewer with copies of a request,
    and then counts the copies' answers as further answers to the same prompt. Here every rank works
    through its own requests by itself.

    Args:
        number: the number of requests of a task or of windows, or the batch size that fits.
        ranks: the ranks.
    """
    return number.reshape(1).expand(ranks.count).clone()


def in_order(gathered: Sequence[Any]) -> Any:
    """Put what lm-eval gathered from several ranks into the order of a single process.

    lm-eval deals a task's documents out to the ranks in turn, but joins the results rank by rank.
    Without this function, samples would be in another order, and bootstraps would draw others.

    Args:
        gathered: an object for each rank, in the order of ranks. Each is a dictionary of tasks with
            lists of samples or, one level deeper, of values.
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

    Weights that are identified only by the times of their files are not compared, because copies of
    the same files have other times.

    Args:
        identities: the identity of each rank, in the order of ranks.
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
    """Return nothing: the contribution of a rank if another rank makes the result."""


def _named(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _filter(item: Any) -> Any:
    """Return the filter of a sample, since lm-eval logs a sample for each; None for a value."""
    return item.get("filter") if isinstance(item, Mapping) else None
