"""The contract of an engine, which runs a judge's model on batches of prompts, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.reading import folder_sha256
from polyrefuse_tasks.judge_models.formats import Rendered


class CannotJudge(UserError):
    """A judge's model cannot be loaded or run."""


@dataclass(frozen=True)
class Loading:
    """The settings for loading a judge's model.

    Attributes:
        model: a name on the Hugging Face hub, or a folder.
        revision: the revision of the weights on the hub; None for the newest.
        engine: `transformers` or `vllm`; None takes vLLM if it is installed and sees a GPU, and
            otherwise transformers.
        device: where transformers runs the model; None takes a GPU if there is one.
        dtype: the type of the weights, as `from_pretrained` takes it.
        batch_size: the number of prompts in a forward pass of transformers.
    """

    model: str
    revision: str | None = None
    engine: str | None = None
    device: str | None = None
    dtype: str = "auto"
    batch_size: int = 16


class Engine(Protocol):
    """An engine that runs one model."""

    @property
    def revision(self) -> str:
        """The revision of the weights that were loaded."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings beside the weights that decide its answers."""

    def complete(
        self, prompts: Sequence[Rendered], max_new_tokens: int, *, special_tokens: bool = False
    ) -> list[str | None]:
        """Complete prompts with greedy decoding.

        Args:
            prompts: the prompts.
            max_new_tokens: the most tokens of a completion; 1 takes one forward pass without
                generation.
            special_tokens: whether special tokens stay in the completions.

        Returns:
            The completions in the order of the prompts; None for a prompt that is longer, together
            with its completion, than the model's context.

        Raises:
            CannotJudge: the model cannot run.
        """

    def expected_number(self, prompts: Sequence[Rendered], numbers: Sequence[str]) -> list[float]:
        """Return the mean of some numbers, weighted by their probability as the next token.

        The probabilities are normalised over these numbers alone.

        Args:
            prompts: the prompts.
            numbers: the numbers, each of which is one token of the model.

        Returns:
            One mean for each prompt; NaN if the prompt is longer than the model's context.

        Raises:
            CannotJudge: the engine gives no such probabilities, or the model cannot run.
        """


def reason_of(error: Exception) -> str:
    """Write the exception of another library as part of a sentence."""
    name, said = type(error).__name__, first_line(error).rstrip(".: ")
    # The message of a KeyError, and of others, says nothing without the class.
    return said if said == name else f"{name}: {said}"


def advice_after(error: Exception) -> str:
    """Say what to do about a model that cannot be loaded, as the end of a sentence."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    # transformers raises an OSError for these errors of the hub, and also for a missing file. The
    # cause distinguishes them.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HfHubHTTPError | LocalEntryNotFoundError | OfflineModeIsEnabled):
            return (
                "name a folder with --judge-model or, if the hub asks for an agreement, accept it "
                "on the model's page and log in with `hf auth login`"
            )
        cause = cause.__cause__ or cause.__context__
    return "name other weights with --judge-model"


def revision_of_weights(model: str, commit: str | None) -> str:
    """Identify the weights of a model by the commit on the hub or by a checksum.

    Args:
        model: a name on the hub, or a folder.
        commit: the commit on the hub, if the weights come from there.
    """
    name = Path(model).name
    if commit is not None or not Path(model).is_dir():
        return f"{name}@{commit or 'unknown'}"
    return f"{name}@sha256:{folder_sha256(Path(model))}"
