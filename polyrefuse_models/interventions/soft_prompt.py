"""A soft prompt: a prompt that consists of vectors instead of words.

The vectors enter the model through special tokens. The tokenizer gets one such token for each
vector, and hooks on the input embedding put the vectors in place of the tokens' rows. Everything
else treats the tokens as text: chat templates, padding, attention masks, positions, caches and
batches work as they do for words, in every architecture.
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

    A model has one soft prompt at a time. The constructor adds the tokens to the tokenizer, which
    keeps them for the next soft prompt. `generate` suppresses the tokens, because an unembedding
    with more rows than the tokenizer has tokens may have rows for them.

    Args:
        tokenizer: the model's tokenizer, which gets the tokens.
        vectors: what the embedding module returns for the tokens, before any scaling that the model
            does after it. If they are a Parameter, gradients flow into it.
        name: the prompt's name in messages, such as `prompt=FOLDER`.
        foremost: whether it stands in front of the whole chat, where peft trains a prompt.
        provenance: what `identity` says about the prompt.

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
        self.ids = self.ids.to(device)  # A CUDA graph cannot copy from the CPU later.
        held = self.vectors if self.vectors.requires_grad else self.vectors.to(device)
        # Where the tokens are in the embedding's input: passed from one hook to the other.
        places: list[tuple[Tensor, Tensor]] = []

        def take_out(ids: Int[Tensor, "batch token"]) -> Int[Tensor, "batch token"]:
            """Replace our tokens by token 0, because the embedding may have no rows for them."""
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
        neutralise(model)  # A later call would undo the suppression that is added here.
        self._generation = model.generation_config
        self._suppressed = self._generation.suppress_tokens
        self._generation.suppress_tokens = [*(self._suppressed or []), *self.ids.tolist()]

    def identity(self) -> dict[str, Any]:
        """Return what identifies the prompt."""
        return dict(self._provenance)

    def remove(self) -> None:
        """Remove the vectors, so that the model computes what it did before."""
        super().remove()
        if self._generation is not None:
            self._generation.suppress_tokens = self._suppressed
            self._generation = None


@torch.no_grad()
def embed_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str
) -> Float[Tensor, "n d"]:
    """Embed the n tokens of a text, without special tokens around it, in float32."""
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return model.get_input_embeddings()(ids.to(input_device(model)))[0].float()
