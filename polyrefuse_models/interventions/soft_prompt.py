"""A prompt of vectors instead of words.

The vectors get into the model through tokens of their own: as many special tokens are added to the
tokenizer, and hooks on the input embedding put the vectors where their rows would be. To everything
else they are text: chat templates, padding, attention masks, positions, caches and batches are what
they are for words, in every architecture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AddedToken

from polyrefuse_models.anatomy import input_device
from polyrefuse_models.interventions import Hooks
from polyrefuse_models.neutral_generation import neutralise

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class SoftPrompt(Hooks):
    """Vectors that a model reads where `text` stands, until `remove` is called or a `with` ends.

    A model has one at a time. The tokenizer keeps the tokens, and the next one takes them again.
    `generate` is told to suppress them: where an unembedding has more rows than the tokenizer has
    tokens, the new ones are among those rows.

    Args:
        model: decoder-only.
        tokenizer: the model's; gets the tokens.
        vectors: what the embedding module shall return for them, so before any scaling that the
            model does behind it. Gradients flow into a Parameter.

    Attributes:
        text: the placeholder, to be put into a turn or in front of a context.
        vectors: as given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        vectors: Float[Tensor, "n d"] | nn.Parameter,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        names = [f"<|soft_prompt_{index}|>" for index in range(len(vectors))]
        tokenizer.add_tokens(
            [AddedToken(name, special=True, normalized=False) for name in names],
            special_tokens=True,
        )
        self.text = "".join(names)
        self._ids = torch.tensor(tokenizer.convert_tokens_to_ids(names))  # ascending
        self._slot: Tensor | None = None
        self._ours: Tensor | None = None
        embedding = model.get_input_embeddings()
        self._handles += [
            embedding.register_forward_pre_hook(self._take_out, with_kwargs=True),
            embedding.register_forward_hook(self._put_in),
        ]
        neutralise(model)  # before what is suppressed here is set, or it would go with the rest
        self._generation = model.generation_config
        self._suppressed = self._generation.suppress_tokens
        self._generation.suppress_tokens = [*(self._suppressed or []), *self._ids.tolist()]

    def remove(self) -> None:
        """Take the vectors out of the model: it computes what it did before."""
        super().remove()
        self._generation.suppress_tokens = self._suppressed

    def __enter__(self) -> SoftPrompt:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()

    def _take_out(
        self, _embedding: nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        """Look other rows up for our tokens: the embedding has none for them."""
        ids: Int[Tensor, "batch token"] = args[0] if args else kwargs["input"]
        mine = self._ids.to(ids.device)
        self._slot = torch.bucketize(ids, mine).clamp(max=len(mine) - 1)
        self._ours = mine[self._slot] == ids
        ids = ids.masked_fill(self._ours, 0)
        return ((ids, *args[1:]), kwargs) if args else (args, kwargs | {"input": ids})

    def _put_in(
        self, _embedding: nn.Module, _args: tuple, rows: Float[Tensor, "batch token d"]
    ) -> Float[Tensor, "batch token d"]:
        vectors = self.vectors.to(rows)[self._slot.to(rows.device)]
        return torch.where(self._ours.to(rows.device).unsqueeze(-1), vectors, rows)


@torch.no_grad()
def embed_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str
) -> Float[Tensor, "n d"]:
    """What the embedding module returns for a text without special tokens around it, float32."""
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return model.get_input_embeddings()(ids.to(input_device(model)))[0].float()
