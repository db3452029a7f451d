"""A soft prompt: a prompt of vectors instead of words.

The vectors enter the model through special tokens. The tokenizer gets one such token for each
vector, and hooks on the input embedding put the vectors where the tokens' rows would be. Everything
else treats them as text: chat templates, padding, attention masks, positions, caches and batches
work as they do for words, in every architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from transformers import AddedToken

from polyrefuse_models.anatomy import input_device
from polyrefuse_models.hooks import Hooks
from polyrefuse_models.neutral_generation import neutralise

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor, nn
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


class SoftPrompt(Hooks):
    """Vectors that a model reads where `text` stands, from `install` until `remove`.

    A model has one soft prompt at a time. The tokenizer gets the tokens in the constructor and
    keeps them; the next soft prompt uses them again. `generate` is told to suppress the tokens,
    because an unembedding with more rows than the tokenizer has tokens has rows for them too.

    Args:
        tokenizer: the model's tokenizer, which gets the tokens.
        vectors: what the embedding module returns for the tokens, so before any scaling that the
            model does behind it. Gradients flow into a Parameter.
        name: the prompt's name in messages, such as `prompt=FOLDER`.
        foremost: whether it stands in front of the chat template, where peft trains a prompt.
        provenance: what `identity` says of the prompt.

    Attributes:
        text: the placeholder, to be put into a turn or in front of a context.
        ids: the ids of the tokens, ascending.
        vectors: the vectors as given.
    """

    condition = "mcd"
    edits_weights = False

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vectors: Float[Tensor, "n d"] | nn.Parameter,
        *,
        name: str = "the soft prompt",
        foremost: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.name = name
        self.foremost = foremost
        self._provenance = dict(provenance or {})
        names = [f"<|soft_prompt_{index}|>" for index in range(len(vectors))]
        tokenizer.add_tokens(
            [AddedToken(name, special=True, normalized=False) for name in names],
            special_tokens=True,
        )
        self.text = "".join(names)
        self.ids = torch.tensor(tokenizer.convert_tokens_to_ids(names))
        self._generation: GenerationConfig | None = None

    def install(self, model: PreTrainedModel) -> None:
        """Put the vectors into a decoder-only model."""
        embedding = model.get_input_embeddings()
        device = input_device(model)
        self.ids = self.ids.to(device)  # a CUDA graph can take nothing from the CPU later
        held = self.vectors if self.vectors.requires_grad else self.vectors.to(device)
        # The tokens' places in the input of the embedding, kept from one hook to the other.
        places: list[tuple[Tensor, Tensor]] = []

        def take_out(ids: Int[Tensor, "batch token"]) -> Int[Tensor, "batch token"]:
            """Look up other rows for our tokens, because the embedding has none for them."""
            mine = self.ids.to(ids.device)
            slot = torch.bucketize(ids, mine).clamp(max=len(mine) - 1)
            ours = mine[slot] == ids
            places[:] = [(slot, ours)]
            return ids.masked_fill(ours, 0)

        def put_in(rows: Float[Tensor, "batch token d"]) -> Float[Tensor, "batch token d"]:
            ((slot, ours),) = places
            vectors = held.to(rows)[slot.to(rows.device)]
            return torch.where(ours.to(rows.device).unsqueeze(-1), vectors, rows)

        self.on_input(embedding, take_out, name="input")
        self.on_output(embedding, put_in)
        neutralise(model)  # later it would also set aside the tokens that are suppressed here
        self._generation = model.generation_config
        self._suppressed = self._generation.suppress_tokens
        self._generation.suppress_tokens = [*(self._suppressed or []), *self.ids.tolist()]

    def identity(self) -> dict[str, Any]:
        """Return what identifies the prompt."""
        return dict(self._provenance)

    def remove(self) -> None:
        """Take the vectors out of the model, so that it computes what it did before."""
        super().remove()
        if self._generation is not None:
            self._generation.suppress_tokens = self._suppressed
            self._generation = None


@torch.no_grad()
def embed_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str
) -> Float[Tensor, "n d"]:
    """Embed a text, without special tokens around it, in float32."""
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return model.get_input_embeddings()(ids.to(input_device(model)))[0].float()
