"""Make a model's wiring without its weights, to examine a model that another engine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_SHIFTS = 100_003
"""The number of offsets in the shared numbers at which a parameter can begin. Different offsets
keep the parameters of a block from being equal."""


@torch.no_grad()
def stand_in(config: PretrainedConfig, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """Make a model of a given configuration with random parameters, in float32 on the CPU.

    The parameters are views of one tensor that is about as large as the largest of them, so a model
    of any size fits into memory. `anatomy.dissect` finds the same in it as in the model itself. Do
    not write into the parameters.

    Args:
        config: the configuration, as `AutoConfig` reads it.
        trust_remote_code: whether the model's own code may run.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(
            config, trust_remote_code=trust_remote_code, dtype=torch.float32
        )
    sizes = [parameter.numel() for parameter in model.parameters()]
    random = torch.Generator().manual_seed(0)
    numbers = torch.empty(max(sizes) + _SHIFTS).uniform_(-0.1, 0.1, generator=random)
    views: dict[nn.Parameter, nn.Parameter] = {}  # By parameter, so that tied ones stay tied.
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in views:
                start = len(views) * 7919 % _SHIFTS
                view = numbers[start : start + parameter.numel()].view(parameter.shape)
                views[parameter] = nn.Parameter(view, requires_grad=False)
            setattr(module, name, views[parameter])
    model.tie_weights()
    ready: Any = model.eval()
    return ready
