"""What runs a judge's model on a batch of prompts, and how it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.reading import folder_sha256
from polyrefuse_tasks.judge_models.formats import Rendered


class CannotJudge(UserError):
    """A judge's model that cannot be loaded or run."""


@dataclass(frozen=True)
class Loading:
    """Which weights, where and by what.

    Attributes:
        model: name on the Hugging Face hub, or a folder.
        revision: of the weights on the hub; None for its newest.
        engine: `transformers` or `vllm`; None for vLLM where it is installed and sees a GPU, else
            transformers.
        device: where transformers puts the model; None for a GPU where there is one.
        dtype: of the weights, as `from_pretrained` takes it.
        batch_size: prompts in a forward pass of transformers.
    """

    model: str
    revision: str | None = None
    engine: str | None = None
    device: str | None = None
    dtype: str = "auto"
    batch_size: int = 16


class Engine(Protocol):
    """Runs one model."""

    @property
    def revision(self) -> str:
        """Of the weights that were loaded."""

    @property
    def settings(self) -> dict[str, Any]:
        """What decides its answers beside the weights."""

    def complete(
        self, prompts: Sequence[Rendered], max_new_tokens: int, *, special_tokens: bool = False
    ) -> list[str | None]:
        """Greedy completions, in the order of the prompts.

        Args:
            max_new_tokens: 1 takes one forward pass, and no generation.
            special_tokens: whether they stay in the completions.

        Returns:
            None for each prompt that, with its completion, is longer than the model's context.
        """

    def expected_number(self, prompts: Sequence[Rendered], numbers: Sequence[str]) -> list[float]:
        """The mean of some numbers by their probability as the next token, among one another.

        Args:
            numbers: each of them one token of the model.
        """


def reason_of(error: Exception) -> str:
    """What another library's exception says, as part of a sentence."""
    name, said = type(error).__name__, first_line(error).rstrip(".: ")
    # Of a KeyError, and of others, the message alone says nothing.
    return said if said == name else f"{name}: {said}"


def advice_after(error: Exception) -> str:
    """What to do about a model that cannot be loaded, as the end of a sentence."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    # transformers raises an OSError for each of them, as it does for a file that is missing.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError | LocalEntryNotFoundError | OfflineModeIsEnabled):
            return (
                "name a folder with --judge-model, or, where the hub asks for an agreement, accept "
                "it on the model's page and log in with `hf auth login`"
            )
        cause = cause.__cause__ or cause.__context__
    return "name other weights with --judge-model"


def revision_of_weights(model: str, commit: str | None) -> str:
    """What tells the weights of one name from others: the commit on the hub, or a checksum.

    Args:
        model: name on the hub, or a folder.
        commit: of the hub, where the weights are from there.
    """
    name = Path(model).name
    if commit is not None or not Path(model).is_dir():
        return f"{name}@{commit or 'unknown'}"
    return f"{name}@sha256:{folder_sha256(Path(model))}"
