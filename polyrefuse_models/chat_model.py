"""How a prompt reaches a chat model: the template around it, and the tokens that follow it."""

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
"""Rows of a forward pass in extraction, where fewer were asked for."""

ROWS_ON_CUDA = 128
"""Rows of a forward pass on a GPU, which fewer leave waiting for the next."""

Made = TypeVar("Made")

Encode = Callable[[list[str]], "tuple[Int[Tensor, 'batch token'], Int[Tensor, 'batch token']]"]
"""Rendered texts -> token ids and attention mask, padded on the left."""


def default_rows(device: torch.device | str) -> int:
    """Rows of a forward pass where nobody said how many.

    Args:
        device: as it was named; one that there is not is told where the model is loaded.
    """
    return ROWS_ON_CUDA if str(device).startswith("cuda") else LEAST_ROWS


def extraction_rows(asked: int | str, device: torch.device) -> int:
    """Rows of a forward pass in extraction.

    Args:
        asked: HFLM's `batch_size`. 1 is what it is where nobody said, and "auto" leaves it open:
            both follow the device.
        device: where the model is.
    """
    said = isinstance(asked, int) and asked > 1
    return max(LEAST_ROWS, int(asked)) if said else default_rows(device)


def rows_here(asked: int | None, device: str | None) -> int:
    """Rows of a forward pass of a `polyrefuse` command that loads a model on this machine.

    Args:
        asked: its `--batch-size`.
        device: its `--device`; a GPU where there is one, if None.
    """
    named = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return extraction_rows(asked or 1, torch.device(named))


def within_memory(chat: ChatModel, work: Callable[[ChatModel], Made]) -> Made:
    """What `work` makes with a model, or with half its rows where a GPU's memory is too small.

    Raises:
        UserError: it is too small for half of them, too.
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
        model: decoder-only, in evaluation mode.
        tokenizer: the model's.
        render: one prompt -> the text that the model reads, template applied.
        encode: rendered texts -> token ids and attention mask, padded on the left.
        batch_size: prompts a forward pass.
        template: the chat template behind `render`, and its system text; None where there is none,
            or where nobody knows.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    render: Callable[[str], str]
    encode: Encode
    batch_size: int
    template: ChatTemplate | None = None
    _ids: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def token_ids(self, prompts: list[str]) -> list[Int[Tensor, "token"]]:
        """What the model reads for each prompt: template applied, nothing padded, on the CPU.

        A prompt is rendered and encoded once, however often it is asked for.
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._ids]
        if new:
            ids, mask = self.encode([self.render(prompt) for prompt in new])
            rows = (row[real] for row, real in zip(ids.cpu(), mask.cpu().bool(), strict=True))
            self._ids.update(zip(new, rows, strict=True))
        return [self._ids[prompt] for prompt in prompts]

    def padded(self, prompts: list[str]) -> dict[str, Int[Tensor, "batch token"]]:
        """What a forward pass takes: `token_ids` padded on the left, where the model reads them."""
        rows = self.token_ids(prompts)
        ids, mask = (
            pad_sequence(padded, batch_first=True, padding_side="left").to(input_device(self.model))
            for padded in (rows, [torch.ones_like(row) for row in rows])
        )
        # transformers counts positions from the padding otherwise, `generate` does not.
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}

    @property
    def system(self) -> dict[str, str | None]:
        """What artifacts say of the system text: which was asked for, and its words."""
        identity = {} if self.template is None else self.template.identity()
        return {
            "system": identity.get("system", "template"),
            "system_text": identity.get("system_text"),
        }

    @property
    def suffix(self) -> list[int]:
        """Ids of the post-instruction tokens: what the template puts after the user's text.

        They are what differently ending prompts have in common at their end, so a token that
        merges with the user's text is not among them. Empty without a template.
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
        """Logits of the first token of each prompt's answer, a batch at a time.

        Yields:
            which of `prompts` the rows are, and their logits in float32.
        """
        self.token_ids(prompts)  # encoded together, read again batch by batch
        for start in range(0, len(prompts), self.batch_size):
            part = slice(start, start + self.batch_size)
            inputs = self.padded(prompts[part])
            logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits
            yield part, logits[:, -1].float()
