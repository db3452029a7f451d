"""Work that is done again with half of its rows where a device's memory is too small for it."""

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
"""What CUDA and its libraries say where torch has no type for it."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device's memory is full."""
    if isinstance(error, UserError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or bool(_SAID.search(str(error)))


def halved_where_full(rows: int, work: Callable[[int], Made], least: int = 1) -> Made:
    """What `work` makes with so many rows in a forward pass, or with half of them.

    Args:
        rows: that it begins with.
        work: takes the number of rows, and can begin again.
        least: fewest rows that a user can ask for.

    Raises:
        UserError: memory is too small for half of them, too.
    """
    try:
        return work(rows)
    except Exception as error:
        if not out_of_memory(error):
            raise
    # Behind the handler, since the error holds the tensors of the pass.
    gc.collect()
    torch.cuda.empty_cache()
    fewer = max(1, rows // 2)
    logger.warning(
        "The GPU ran out of memory with %d rows in a forward pass; what it was busy with is done "
        "again with %d.",
        rows,
        fewer,
    )
    try:
        return work(fewer)
    except Exception as error:
        if not out_of_memory(error):
            raise
    smaller = f"a smaller batch size (from {least} on), " if rows > least else ""
    raise UserError(
        f"The GPU ran out of memory with {rows} rows in a forward pass, and with {fewer}; give "
        f"{smaller}a smaller dtype such as bfloat16, or a GPU that nothing else uses."
    )
