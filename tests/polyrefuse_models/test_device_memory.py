"""What counts as a full memory, and what is done then."""

from __future__ import annotations

import weakref
from typing import NoReturn

import pytest
import torch

from polyrefuse_models.device_memory import halved_where_full, out_of_memory
from polyrefuse_shared.errors import UserError


class AcceleratorError(RuntimeError):
    """As torch names the errors of a device, in versions that have it."""


FULL = [
    torch.OutOfMemoryError("Allocation on device 0 would exceed allowed memory."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    ValueError("Triton: CUDA out of memory. Tried to allocate 3.00 GiB"),
]
OTHER = [
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    ValueError("A value ran out of its range; memory is fine."),
    UserError("The GPU ran out of memory with 8 rows in a forward pass."),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_memory_by_type_or_text(error: Exception) -> None:
    assert out_of_memory(error)
    tried = []

    def work(rows: int) -> str:
        tried.append(rows)
        if len(tried) == 1:
            raise error
        return "made"

    assert halved_where_full(9, work) == "made"
    assert tried == [9, 4]


@pytest.mark.parametrize("error", OTHER, ids=str)
@pytest.mark.parametrize("at", [1, 2])
def test_everything_else_is_raised_as_it_is(error: Exception, at: int) -> None:
    assert not out_of_memory(error)
    tried = []

    def work(rows: int) -> NoReturn:
        tried.append(rows)
        raise error if len(tried) == at else FULL[0]

    with pytest.raises(type(error)) as raised:
        halved_where_full(16, work)
    assert raised.value is error
    assert tried == [16, 8][:at]


@pytest.mark.parametrize(
    ("rows", "fewer", "advice"),
    [
        (32, 16, "a smaller batch size (8 or more), a smaller dtype"),
        (9, 4, "a smaller batch size (8 or more), a smaller dtype"),
        (8, 4, "a smaller dtype"),
        (1, 1, "a smaller dtype"),
    ],
)
def test_the_advice_can_be_followed(rows: int, fewer: int, advice: str) -> None:
    def work(_rows: int) -> NoReturn:
        raise FULL[0]

    with pytest.raises(UserError) as raised:
        halved_where_full(rows, work, least=8)
    assert f"with {rows} rows in a forward pass, and also with {fewer}; use {advice} such" in str(
        raised.value
    )


def test_what_the_first_try_held_is_let_go_before_the_second() -> None:
    class Pass:
        """Holds itself, so that counting references does not free it."""

        def __init__(self) -> None:
            self.own = self

    held: list[weakref.ref[Pass]] = []

    def work(_rows: int) -> bool:
        if held:
            return held[0]() is None
        held.append(weakref.ref(Pass()))
        raise RuntimeError("CUDA out of memory")

    assert halved_where_full(2, work)
