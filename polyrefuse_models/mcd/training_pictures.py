"""Pictures of a training, as PNG: its losses, and the states that it moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polyrefuse_models.directions.marks import short_name
from polyrefuse_models.mcd.loss import Terms
from polyrefuse_shared import pictures
from polyrefuse_shared.pictures import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from polyrefuse_models.mcd.probes import Probe
    from polyrefuse_models.mcd.train import Trained

KINDS = ((0, "harmful", PALETTE["vermilion"], "x"), (1, "harmless", PALETTE["blue"], "o"))
"""Label, name, colour and marker of each kind of anchor."""


@pictures.plain_text()
def training_png(trained: Trained) -> bytes:
    """A panel a term, by step."""
    figure = pictures.figure((8, 8))
    axes = figure.subplots(len(Terms._fields), 1, sharex=True)
    steps = np.arange(1, len(trained.losses) + 1)
    for axis, name in zip(axes, Terms._fields, strict=True):
        axis.plot(
            steps, [getattr(step, name) for step in trained.losses], color=PALETTE["blue"], lw=1
        )
        axis.set_ylabel(name)
    axes[-1].set_xlabel("step")
    metadata = trained.prompt.metadata
    pictures.title(figure, f"{short_name(metadata['model'])}: {', '.join(metadata['languages'])}")
    return pictures.png(figure)


@pictures.plain_text()
def states_png(trained: Trained) -> bytes:
    """A row a language: states before and after, in the plane of the first two components.

    Lines show where a probe is undecided in that plane, the other two components at their mean.
    """
    figure = pictures.figure((8, 0.8 + 3.2 * len(trained.before)))
    axes = figure.subplots(len(trained.before), 2, sharex=True, sharey=True, squeeze=False)
    labels = trained.labels.numpy()
    for row, language in zip(axes, trained.before, strict=True):
        for axis, (when, coordinates) in zip(
            row, (("before", trained.before), ("after", trained.after)), strict=True
        ):
            points = coordinates[language].numpy()
            for label, name, colour, marker in KINDS:
                kind = points[labels == label]
                axis.scatter(
                    kind[:, 0], kind[:, 1], s=12, c=colour, marker=marker, label=name, lw=0.8
                )
            axis.set_title(f"{language}, {when}", fontsize="small")
    # The lines last and within what the points take up, which they would stretch otherwise.
    for axis in axes.flat:
        axis.autoscale(False)
        _boundary(axis, trained.measure.refusal, "refusal", "--")
        _boundary(axis, trained.measure.harmfulness, "harmfulness", ":")
    axes.flat[0].legend(fontsize="x-small")
    pictures.title(
        figure,
        f"{short_name(trained.prompt.metadata['model'])}: last states, first two principal "
        "components",
    )
    return pictures.png(figure)


def _boundary(axis: Axes, probe: Probe, name: str, style: str) -> None:
    x, y = (weight.item() for weight in probe.weight[:2])
    if x or y:
        nearest = -probe.bias / (x * x + y * y)
        at = (nearest * x, nearest * y)
        axis.axline(at, (at[0] - y, at[1] + x), color="black", ls=style, lw=1, label=name)
