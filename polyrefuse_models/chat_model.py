"""A chat model, and how a prompt becomes its input: the template and the token ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence

from polyrefuse_models.anatomy import input_device
from polyrefuse_models.device_memory import halved_where_full

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polyrefuse_models.chat_template import ChatTemplate

LEAST_ROWS = 8
"""The smallest number of rows of a forward pass in extraction."""

ROWS_ON_CUDA = 128
"""The number of rows of a forward pass on a GPU, which is mostly idle with fewer."""

Made = TypeVar("Made")

Encode = Callable[[list[str]], "tuple[Int[Tensor, 'batch token'], Int[Tensor, 'batch token']]"]
"""A function from rendered texts to token ids and attention mask, padded on the left."""


def default_rows(device: torch.device | str) -> int:
    """Return the number of rows of a forward pass if the user gave none.

    Args:
        device: the device as the user named it. Whether it exists is checked when the model is
            loaded.
    """
    return ROWS_ON_CUDA if str(device).startswith("cuda") else LEAST_ROWS


def extraction_rows(asked: int | str, device: torch.device) -> int:
    """Return the number of rows of a forward pass in extraction.

    Args:
        asked: HFLM's `batch_size`. With 1, which is its default, and with "auto" the number of
            rows follows the device.
        device: the device that the model is on.
    """
    said = isinstance(asked, int) and asked > 1
    return max(LEAST_ROWS, int(asked)) if said else default_rows(device)


def rows_here(asked: int | None, device: str | None) -> int:
    """Return the number of rows of a `polyrefuse` command's forward passes on this machine.

    Args:
        asked: the command's `--batch-size`.
        device: the command's `--device`. None means a GPU if there is one, and the CPU otherwise.
    """
    named = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return extraction_rows(asked or 1, torch.device(named))


def within_memory(chat: ChatModel, work: Callable[[ChatModel], Made]) -> Made:
    """Do `work` with a model, and once more with half as many rows if a GPU's memory is too small.

    Raises:
        UserError: the memory is too small even for half of the rows.
    """
    return halved_where_full(
        chat.batch_size,
        lambda rows: work(chat if rows == chat.batch_size else replace(chat, batch_size=rows)),
        LEAST_ROWS,
    )


@dataclass(frozen=True)
class ChatModel:
    """A model, and how prompts are turned into its input.

    Attributes:
        model: a decoder-only model in evaluation mode.
        tokenizer: the model's tokenizer.
        render: turns a prompt into the text that the model reads, with the template applied.
        encode: turns rendered texts into token ids and an attention mask, padded on the left.
        batch_size: the number of prompts in a forward pass.
        template: the chat template behind `render`, and its system text; None if there is none, or
            if it is not known.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    render: Callable[[str], str]
    encode: Encode
    batch_size: int
    template: ChatTemplate | None = None
    _ids: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def token_ids(self, prompts: list[str]) -> list[Int[Tensor, "token"]]:
        """Return the token ids of each prompt, with the template applied, unpadded, on the CPU.

        Each prompt is rendered and encoded only once and then remembered.
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._ids]
        if new:
            ids, mask = self.encode([self.render(prompt) for prompt in new])
            rows = (row[real] for row, real in zip(ids.cpu(), mask.cpu().bool(), strict=True))
            self._ids.update(zip(new, rows, strict=True))
        return [self._ids[prompt] for prompt in prompts]

    def padded(self, prompts: list[str]) -> dict[str, Int[Tensor, "batch token"]]:
        """Return the input of a forward pass: `token_ids` padded on the left, on the device."""
        rows = self.token_ids(prompts)
        ids, mask = (
            pad_sequence(padded, batch_first=True, padding_side="left").to(input_device(self.model))
            for padded in (rows, [torch.ones_like(row) for row in rows])
        )
        # Without positions, a forward pass would count the padding too; `generate` does not.
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}

    @property
    def system(self) -> dict[str, str | None]:
        """What artifacts record of the system text: the kind that was asked for, and the text."""
        identity = {} if self.template is None else self.template.identity()
        return {
            "system": identity.get("system", "template"),
            "system_text": identity.get("system_text"),
        }

    @property
    def suffix(self) -> list[int]:
        """The ids of the post-instruction tokens, which the template puts after the user's text.

        They are the tokens that prompts with different endings have in common at their end. A token
        that merges with the user's text is therefore not among them. Without a template there are
        none.
        """
        endings = ("a", "7", "!", "ß", "。")
        ids = [
            self.tokenizer(self.render(end), add_special_tokens=False).input_ids for end in endings
        ]
        shared = []
        for column in zip(*(reversed(sequence) for sequence in ids), strict=False):
            if len(set(column)) > 1:
                break
            shared.append(column[0])
        return shared[::-1]

    @torch.inference_mode()
    def next_token_logits(
        self, prompts: list[str]
    ) -> Iterator[tuple[slice, Float[Tensor, "batch vocabulary"]]]:
        """Compute the logits of the first token of each prompt's answer, a batch at a time.

        Yields:
            The slice of `prompts` that the rows belong to, and their logits in float32.
        """
        self.token_ids(prompts)  # One call encodes all; `padded` then finds their ids remembered.
        for start in range(0, len(prompts), self.batch_size):
            part = slice(start, start + self.batch_size)
            inputs = self.padded(prompts[part])
            logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits
            yield part, logits[:, -1].float()
