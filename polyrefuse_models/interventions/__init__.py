"""Interventions: changes that a condition makes to a model in memory, one module for each.

An intervention is an object with `install(model)`, `identity()` and a `condition`
(`contract.Intervention`). An engine composes any number of them.
"""

from polyrefuse_models.interventions.ablation import Ablation, ablated
from polyrefuse_models.interventions.addition import Addition, check_multiple
from polyrefuse_models.interventions.affine import AffineAblation
from polyrefuse_models.interventions.contract import (
    Intervention,
    Preamble,
    condition_of,
    identity_of,
    installed,
)
from polyrefuse_models.interventions.layers import LayerOutOfRange, check_layers
from polyrefuse_models.interventions.projection import (
    ablate,
    ablate_rows,
    ablate_span,
    add,
    add_rows,
    orthogonal_to,
    orthonormal,
    set_along,
)
from polyrefuse_models.interventions.soft_prompt import SoftPrompt, embed_text
from polyrefuse_models.interventions.subspace import SubspaceAblation
from polyrefuse_models.interventions.system_text import SystemText

__all__ = [
    "Ablation",
    "Addition",
    "AffineAblation",
    "Intervention",
    "LayerOutOfRange",
    "Preamble",
    "SoftPrompt",
    "SubspaceAblation",
    "SystemText",
    "ablate",
    "ablate_rows",
    "ablate_span",
    "ablated",
    "add",
    "add_rows",
    "check_layers",
    "check_multiple",
    "condition_of",
    "embed_text",
    "identity_of",
    "installed",
    "orthogonal_to",
    "orthonormal",
    "set_along",
]
