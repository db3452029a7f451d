"""Repeat work with half as many rows if a device's memory is too small for it."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import TypeVar

import torch

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.log import logger

Made = TypeVar("Made")

_SAID = re.compile(r"\bout of memory\b|_STATUS_ALLOC_FAILED\b")
"""The messages of CUDA and its libraries for which torch has no type of error."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device's memory is full."""
    if isinstance(error, UserError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or bool(_SAID.search(str(error)))


def halved_where_full(rows: int, work: Callable[[int], Made], least: int = 1) -> Made:
    """Do `work` with a number of rows, and once more with half of them if memory is too small.

    Args:
        rows: the number of rows in a forward pass to begin with.
        work: a function of the number of rows. It has to be able to start again after a failure.
        least: the smallest number of rows that a user can ask for.

    Raises:
        UserError: the memory is too small even for half of the rows.
    """
    try:
        return work(rows)
    except Exception as error:
        if not out_of_memory(error):
            raise
    # This has to come after the handler, because the error keeps the tensors of the pass alive.
    gc.collect()
    torch.cuda.empty_cache()
    fewer = max(1, rows // 2)
    logger.warning(
        "The GPU ran out of memory with %d rows in a forward pass; trying again with %d.",
        rows,
        fewer,
    )
    try:
        return work(fewer)
    except Exception as error:
        if not out_of_memory(error):
            raise
    smaller = f"a smaller batch size ({least} or more), " if rows > least else ""
    raise UserError(
        f"The GPU ran out of memory with {rows} rows in a forward pass, and also with {fewer}; use "
        f"{smaller}a smaller dtype such as bfloat16, or a GPU that nothing else uses."
    )
