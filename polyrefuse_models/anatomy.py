"""Where a decoder-only model keeps its blocks, and which modules write to its residual stream.

Llama-like designs: pre-norm blocks with `self_attn` and `mlp`, whose outputs are added to the
residual stream as they are (Llama, Qwen 2 and 3, Mistral, Phi 3, Granite, ...). Anything else is
an error that names what was not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_tasks.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

ATTENTION, MLP = "self_attn", "mlp"

POST_NORMS = ("post_feedforward_layernorm", "post_self_attn_layernorm")
"""Norms between a module's output and the residual stream (Gemma 2 and 3, OLMo 2, GLM 4)."""


class UnknownArchitecture(UserError):
    """A module that an intervention needs was not found in the model."""


def decoder_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The model's decoder blocks in order.

    Raises:
        UnknownArchitecture: no list of Llama-like blocks, or blocks whose attention or MLP output
            is normalised before it reaches the residual stream.
    """
    from torch import nn

    name = type(model).__name__
    for module in model.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) and hasattr(module[0], ATTENTION):
            blocks = module
            break
    else:
        raise UnknownArchitecture(
            f"{name}: no list of decoder blocks with `{ATTENTION}` was found; "
            "this release ablates Llama-like models only."
        )
    for index, block in enumerate(blocks):
        for part in (ATTENTION, MLP):
            if not hasattr(block, part):
                raise UnknownArchitecture(
                    f"block {index} of {name} has no `{part}`; "
                    "this release ablates Llama-like models only."
                )
        for norm in POST_NORMS:
            if hasattr(block, norm):
                raise UnknownArchitecture(
                    f"block {index} of {name} has a `{norm}` between its modules and the residual "
                    "stream; this release ablates pre-norm models only."
                )
    return blocks


def residual_writes(model: PreTrainedModel) -> list[nn.Module]:
    """Every module whose output is added to the residual stream: 2 L + 1 of them.

    The embedding first, then each block's attention and MLP. An output may be a tuple whose first
    element is the tensor.
    """
    blocks = decoder_blocks(model)
    writes = [getattr(block, part) for block in blocks for part in (ATTENTION, MLP)]
    return [model.get_input_embeddings(), *writes]


def width(model: PreTrainedModel) -> int:
    """d, the width of the residual stream."""
    return model.get_input_embeddings().embedding_dim
