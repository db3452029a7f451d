"""What can be done to a model while it is measured: one module an intervention."""

from polyrefuse_models.interventions.ablation import Ablation, ablated
from polyrefuse_models.interventions.addition import Addition
from polyrefuse_models.interventions.hooks import Hooks, LayerOutOfRange, check_layers
from polyrefuse_models.interventions.projection import ablate, ablate_rows, add

__all__ = [
    "Ablation",
    "Addition",
    "Hooks",
    "LayerOutOfRange",
    "ablate",
    "ablate_rows",
    "ablated",
    "add",
    "check_layers",
]
