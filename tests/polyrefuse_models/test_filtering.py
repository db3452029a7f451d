"""`directions/filtering.py`: which prompts a direction is made from."""

from __future__ import annotations

import pytest
import torch

from polyrefuse_models.directions.extract import Observed
from polyrefuse_models.directions.filtering import FEWEST, filtered


def observed(refused: int, answered: int) -> Observed:
    """Next-token logits of two tokens, the first of which opens refusals."""
    logits = torch.tensor([[4.0, -4.0]] * refused + [[-4.0, 4.0]] * answered)
    states = torch.zeros(refused + answered, 1, 1, 2)
    return Observed(states, states[:, :, 0], logits)


@pytest.mark.parametrize(
    ("refused", "answered", "kept", "said"),
    [
        (20, 5, 20, None),
        (20, 25, 20, "only 20 of 45 some prompts have a refusal score above 0. The model answers"),
        (FEWEST - 1, 1, FEWEST, "fewer than 16. All of them were used, so the direction does"),
        # Few as they are, none of them was left out.
        (3, 0, 3, None),
    ],
)
def test_what_is_left_out_is_told(refused: int, answered: int, kept: int, said: str | None) -> None:
    warnings: list[str] = []
    found = filtered("some", observed(refused, answered), [0], True, warnings)
    assert found == list(range(kept))
    assert len(warnings) == (said is not None)
    assert said is None or said in warnings[0]


def test_without_tokens_all_are_taken() -> None:
    warnings: list[str] = []
    assert filtered("some", observed(1, 30), None, True, warnings) == list(range(31))
    assert not warnings
