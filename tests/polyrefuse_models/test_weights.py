"""The checksum of weights: the same anywhere, and another for any other bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from polyrefuse_models.weights import WORDS, _factors, _sums, weights_checksum

FIRST_FACTORS = [8331934973171769101, -1735726196047904381]

TYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.int8,
    torch.uint8,
    torch.int64,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
]


def drawn(n: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Elements of random bytes."""
    size = torch.empty(0, dtype=dtype).element_size()
    stored = random.Random(seed).randbytes(n * size)
    if not n:
        return torch.empty(0, dtype=dtype)
    if dtype is torch.bool:
        stored = bytes(byte % 2 for byte in stored)
    return torch.frombuffer(bytearray(stored), dtype=torch.uint8).view(dtype)


def by_hand(tensor: torch.Tensor) -> list[tuple[int, int]]:
    """The sums in Python's integers."""
    stored = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    stored += bytes(-len(stored) % (8 * WORDS))
    of_words, of_halves = _factors(torch.device("cpu")).tolist()
    sums = []
    for start in range(0, len(stored), 8 * WORDS):
        words = np.frombuffer(stored[start : start + 8 * WORDS], dtype="<i8").tolist()
        first = sum(w * m for w, m in zip(words, of_words, strict=True))
        second = sum((w >> 32) * n for w, n in zip(words, of_halves, strict=True))
        sums.append((first % 2**64, second % 2**64))
    return sums


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 3, 1001, WORDS, WORDS + 5])
def test_the_sums_are_those_of_pythons_integers(dtype: torch.dtype, n: int) -> None:
    tensor = drawn(n, dtype)
    assert [(a % 2**64, b % 2**64) for a, b in _sums(tensor).tolist()] == by_hand(tensor)


@pytest.mark.parametrize("at_once", [1, 2, 3, 512])
def test_the_sums_do_not_depend_on_how_many_are_taken_at_once(at_once: int) -> None:
    tensor = drawn(11 * WORDS + 7, torch.bfloat16)
    assert torch.equal(_sums(tensor, at_once), _sums(tensor))


def test_the_factors_are_odd_and_fixed() -> None:
    factors = _factors(torch.device("cpu"))
    assert (factors % 2 != 0).all()
    assert len(factors.unique()) == 2 * WORDS
    # From SHAKE256, which is the same in every version of Python, torch and numpy.
    assert factors[:, 0].tolist() == FIRST_FACTORS


def test_any_single_bit_is_noticed() -> None:
    random_ = random.Random(1)
    tensor = drawn(WORDS + 300, torch.int64)
    sums = _sums(tensor)
    for bit in [*range(64), *random_.sample(range(64 * len(tensor)), 200)]:
        stored = tensor.clone().view(torch.uint8)
        stored[bit // 8] ^= 1 << bit % 8
        assert not torch.equal(_sums(stored.view(torch.int64)), sums), bit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_signs_that_change_together_are_noticed(dtype: torch.dtype) -> None:
    """Highest bits are where sums modulo 2^64 of whole words would say nothing."""
    tensor = torch.randn(4 * WORDS, dtype=torch.float64).to(dtype)
    sums = _sums(tensor)
    for step in (1, 2, 4):
        for first in range(step):
            for last in (first + step + 1, None):
                other = tensor.clone()
                other[first:last:step] *= -1
                assert not torch.equal(_sums(other), sums), (step, first, last)


class Model(nn.Module):
    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


def test_the_checksum_tells_names_types_shapes_and_places() -> None:
    x = torch.randn(6, 64)
    swapped = x[[1, 0, 2, 3, 4, 5]]
    models = [
        Model(a=x, b=-x),
        Model(a=-x, b=x),
        Model(a=x, c=-x),
        Model(a=swapped, b=-x),
        Model(a=x.view(12, 32), b=-x),
        Model(a=x.view(torch.int32), b=-x),
        Model(a=x.T, b=-x),
        Model(a=x),
        Model(a=x, b=x),
        Model(a=torch.zeros(3), b=-x),
        Model(a=torch.zeros(4), b=-x),
    ]
    assert len({weights_checksum(model) for model in models}) == len(models)


def test_the_checksum_does_not_tell_how_the_same_bytes_lie() -> None:
    x = torch.randn(64, 6)
    lying = torch.empty(6, 64)
    lying[:] = x.T
    shifted = torch.cat([torch.zeros(1), x.T.flatten()])[1:].view(6, 64)  # not at a multiple of 8
    models = [Model(a=x.T, b=lying), Model(a=lying, b=lying), Model(a=shifted, b=lying.clone())]
    assert len({weights_checksum(model) for model in models}) == 1
