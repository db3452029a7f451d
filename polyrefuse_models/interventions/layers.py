"""Check that a model has the layers that an intervention names."""

from polyrefuse_shared.errors import UserError


class LayerOutOfRange(UserError):
    """A layer that the model does not have."""


def check_layers(layers: range, n_layers: int) -> None:
    """Check that `layers` are blocks of a model with `n_layers`.

    Raises:
        LayerOutOfRange: they are not.
    """
    if not 0 <= layers.start < layers.stop <= n_layers:
        wanted = f"{layers.start}-{layers.stop - 1}" if len(layers) > 1 else f"{layers.start}"
        raise LayerOutOfRange(
            f"Layer {wanted} is not in the model, whose layers are 0-{n_layers - 1}; give a layer "
            "in this range."
        )
