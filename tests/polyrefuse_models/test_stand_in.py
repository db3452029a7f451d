"""A model with random weights in the place of its own has the same anatomy, and takes no memory."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from polyrefuse_models.anatomy import UnknownArchitecture, dissect
from polyrefuse_models.interventions.orthogonalise import obstacle
from polyrefuse_models.stand_in import stand_in
from tests.models import OWN, tiny

ARCHITECTURES = sorted(
    {"llama", "qwen2", "gemma", "gemma2", "olmo2", "gpt_neox", "cohere"} | set(OWN)
)
WITHOUT_ONE = ("rwkv", "xlstm")
"""No list of decoder blocks in transformers' sense, or kernels that do not run here."""


def described(model: PreTrainedModel) -> Any:
    """All that `dissect` finds, by the names of modules, or why it refuses the model."""
    names = {module: name for name, module in model.named_modules()}
    try:
        anatomy = dissect(model)
    except UnknownArchitecture as refusal:
        return str(refusal)
    blocks = [
        (
            names[block.module],
            [(names[w.module], w.projection and names[w.projection]) for w in block.writers],
            block.parallel,
            block.beside,
        )
        for block in anatomy.blocks
    ]
    return blocks, anatomy.alone, anatomy.post_norm, obstacle(model)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number % 4 == 0 else [pytest.mark.slow])
        for number, name in enumerate(ARCHITECTURES)
        if name not in WITHOUT_ONE
    ],
)
def test_its_anatomy_is_the_model_s(name: str) -> None:
    model = tiny(name)
    assert described(stand_in(model.config)) == described(model)


def test_its_parameters_are_views_of_one_tensor() -> None:
    config = AutoConfig.for_model("llama", tie_word_embeddings=True, num_hidden_layers=3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = stand_in(config)  # 1.3 thousand million parameters, 5 GB in float32
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    largest = max(parameter.numel() for parameter in model.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    assert grown < 2 * 4 * largest < 4 * total
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    starts = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert len(starts) == 1
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model(input_ids=torch.tensor([[3, 4]])).logits.isfinite().all()
