"""Draw the figures of a training: its losses, and the states before and after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polyrefuse_models.directions.marks import GUIDE
from polyrefuse_models.directions.planes import square_limits
from polyrefuse_models.mcd.loss import Terms
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import HARMFUL, HARMLESS, INK, of_condition
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from polyrefuse_models.mcd.probes import Probe
    from polyrefuse_models.mcd.train import Trained

KINDS = ((0, "harmful", HARMFUL, "x"), (1, "harmless", HARMLESS, "o"))
"""The label, name, colour and marker of each kind of anchor."""

LABELS: dict[str, str] = {
    "refusal": "refusal loss\n(nats)",
    "harmfulness": "harmfulness loss\n(nats)",
    "norm": "norm loss\n(squared units)",
    "multilingual": "multilingual loss\n(squared units)",
}
"""Term of the loss -> the label of its axis."""


def pictures_of(trained: Trained) -> dict[str, bytes]:
    """Return the files of both figures, by their names."""
    return {
        **pictures.files("training", training_figure(trained), _losses(trained)),
        **pictures.files("states", states_figure(trained), _states(trained)),
    }


@pictures.style()
def training_figure(trained: Trained) -> Figure:
    """Draw each term of the loss by step, each in its own panel.

    If the training used one language after the other, the panels mark the steps of each language.
    """
    figure = pictures.figure((8, 8))
    axes = figure.subplots(len(Terms._fields), 1, sharex=True)
    steps = np.arange(1, len(trained.losses) + 1)
    parts = _parts(trained)
    for axis, name in zip(axes, Terms._fields, strict=True):
        values = [getattr(step, name) for step in trained.losses]
        axis.plot(
            steps, values, color=of_condition("mcd").colour, lw=1,
            marker="." if len(steps) < 2 else "",
        )  # fmt: skip
        axis.set_ylabel(LABELS[name], fontsize="small")
        for end in range(1, len(parts)):
            axis.axvline(end * len(steps) / len(parts) + 0.5, **GUIDE)
    for place, language in enumerate(parts):
        axes[0].text(
            (place + 0.5) / len(parts), 1.02, language, transform=axes[0].transAxes, ha="center",
            va="bottom", fontsize="small",
        )  # fmt: skip
    axes[-1].set_xlabel("training step")
    axes[-1].set_xlim(0, len(steps) + 1)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    metadata = trained.prompt.metadata
    pictures.title(
        figure,
        f"{short_name(metadata['model'])}: losses of the soft prompt that was trained on "
        f"{', '.join(metadata['languages'])}",
    )
    return figure


def _parts(trained: Trained) -> list[str]:
    """Return the languages that were used one after the other; empty if they were mixed."""
    metadata = trained.prompt.metadata
    return [] if metadata["settings"]["mixed"] else list(metadata["languages"])


def _losses(trained: Trained) -> dict[str, Any]:
    metadata = trained.prompt.metadata
    return {
        "model": metadata["model"],
        "languages": list(metadata["languages"]),
        "losses": {
            name: [getattr(step, name) for step in trained.losses] for name in Terms._fields
        },
    }


@pictures.style()
def states_figure(trained: Trained) -> Figure:
    """Draw the states before and after training in the plane of the first two components.

    Each language has a row of two panels. Lines show where a probe is undecided in that plane, if
    the other two components are at their means. Both components have the same scale.
    """
    figure = pictures.figure((8.5, 1.2 + 3.2 * len(trained.before)))
    axes = figure.subplots(len(trained.before), 2, sharex=True, sharey=True, squeeze=False)
    labels = trained.labels.numpy()
    everything = []
    for row, language in zip(axes, trained.before, strict=True):
        for axis, (when, coordinates) in zip(
            row, (("before", trained.before), ("after", trained.after)), strict=True
        ):
            points = coordinates[language].numpy()[:, :2]
            everything.append(points)
            for label, name, colour, marker in KINDS:
                kind = points[labels == label]
                axis.scatter(
                    kind[:, 0], kind[:, 1], s=12, c=colour, marker=marker, label=name, lw=0.8
                )
            axis.set_title(f"{language}, {when} training", fontsize="small")
            axis.set_box_aspect(1)
    (left, right), (bottom, top) = square_limits(np.concatenate(everything))
    axes[0, 0].set_xlim(left, right)
    axes[0, 0].set_ylim(bottom, top)
    for axis in axes.flat:
        # The lines must not change the limits of the axes.
        axis.autoscale(False)
        _boundary(axis, trained.measure.refusal, "refusal probe undecided", "--")
        _boundary(axis, trained.measure.harmfulness, "harmfulness probe undecided", ":")
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize="small")
    figure.supxlabel("first principal component (units of the residual stream)", fontsize="small")
    figure.supylabel("second principal component (the same scale)", fontsize="small")
    pictures.title(
        figure,
        f"{short_name(trained.prompt.metadata['model'])}: states at the last token\n"
        "before and after the soft prompt was trained",
    )
    return figure


def _states(trained: Trained) -> dict[str, Any]:
    labels = trained.labels.numpy()
    return {
        "model": trained.prompt.metadata["model"],
        "states": {
            language: {
                when: {
                    name: coordinates[language].numpy()[labels == label, :2].tolist()
                    for label, name, *_ in KINDS
                }
                for when, coordinates in (("before", trained.before), ("after", trained.after))
            }
            for language in trained.before
        },
        "probes": {
            name: {"weight": probe.weight[:2].tolist(), "bias": probe.bias}
            for name, probe in (
                ("refusal", trained.measure.refusal),
                ("harmfulness", trained.measure.harmfulness),
            )
        },
    }


def _boundary(axis: Axes, probe: Probe, name: str, style: str) -> None:
    x, y = (weight.item() for weight in probe.weight[:2])
    if x or y:
        nearest = -probe.bias / (x * x + y * y)
        at = (nearest * x, nearest * y)
        axis.axline(at, (at[0] - y, at[1] + x), color=INK, ls=style, lw=1, label=name)
