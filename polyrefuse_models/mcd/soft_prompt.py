"""A prompt of vectors instead of words, and where a prompt stands in a chat.

The vectors get into the model through tokens of their own: as many special tokens are added to the
tokenizer, and hooks on the input embedding put the vectors where their rows would be. To everything
else they are text: chat templates, padding, attention masks, positions, caches and batches are what
they are for words, in every architecture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jinja2
import torch
from transformers import AddedToken

from polyrefuse_models.anatomy import input_device
from polyrefuse_models.interventions import Hooks
from polyrefuse_tasks.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = list[dict[str, str]]

_PROBE = "polyrefuse"


class NoPlace(UserError):
    """A chat that a prompt cannot be put into."""


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


def in_front(text: str, words: str) -> str:
    """A prompt in front of other words, with a blank line between where there are any."""
    return f"{text}\n\n{words}" if words else text


def with_system(messages: Messages, text: str, tokenizer: PreTrainedTokenizerBase) -> Messages:
    """Put a prompt into the system turn, or the user's where the template has no system role.

    Args:
        messages: a chat; not changed. A system turn that is there stays, behind the prompt.
        text: of the prompt, in words or of a soft one.
        tokenizer: whose template it is for.

    Raises:
        NoPlace: the template shows no system turn, and no user turn or the chat has none.
    """
    if _shows(tokenizer, "system"):
        begun = bool(messages) and messages[0]["role"] == "system"
        told = messages[0]["content"] if begun else ""
        return [{"role": "system", "content": in_front(text, told)}, *messages[begun:]]
    first = next((i for i, m in enumerate(messages) if m["role"] == "user"), None)
    if first is None or not _shows(tokenizer, "user"):
        raise NoPlace(
            "The chat template shows no system turn, and there is no user turn that it shows: a "
            "prompt has no place in it; give tokenizer=<one with another template>."
        )
    user = messages[first]
    told = user | {"content": in_front(text, user["content"])}
    return [*messages[:first], told, *messages[first + 1 :]]


def _shows(tokenizer: PreTrainedTokenizerBase, role: str) -> bool:
    """Whether the chat template writes down what a turn of that role says."""
    turns = {"system": "-", "user": "-", role: _PROBE}
    chat = [{"role": name, "content": content} for name, content in turns.items()]
    try:
        shown = tokenizer.apply_chat_template(
            chat if role == "system" else chat[1:], tokenize=False, add_generation_prompt=True
        )
    except jinja2.exceptions.TemplateError:
        return False
    return _PROBE in shown
