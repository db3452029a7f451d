"""Draw where refused and answered prompts lie along the direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.marks import GUIDE, OWN_LAYER, beside, control_line, gaps
from polyrefuse_models.directions.success import LEAST
from polyrefuse_shared import colours, pictures
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from collections.abc import Container

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each column has its outcomes, its name, its colour and its marker.
COLUMNS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (("refused",), "refused", colours.REFUSED, "o"),
    (("complied",), "complied", colours.COMPLIED, "^"),
    (("jailbroken",), "jailbroken: refused without the attack", colours.JAILBROKEN, "s"),
    (("degenerate", "undecided"), "no verdict (degenerate or undecided)", colours.NO_VERDICT, "x"),
)

PANELS = {
    "harmful": "harmful prompts",
    "attacked": "harmful prompts with an attack around them",
    "harmless": "harmless prompts",
}
"""Group of prompts -> the name of its panel."""

AUC_OF = {"harmful": "harmful", "attacked": "jailbroken", "harmless": "harmless"}
"""Group of prompts -> the AUC above its panel."""

COMPARED = {
    "harmful": "refused against complied",
    "attacked": "refused against jailbroken",
    "harmless": "refused against complied",
}
"""Group of prompts -> the outcomes that this AUC compares."""

LINES = {
    "harmful": ("harmful prompts: refused against complied with", colours.HARMFUL, "-"),
    "jailbroken": ("refused prompts against jailbroken ones", colours.JAILBROKEN, "--"),
    "harmless": ("harmless prompts: refused against complied with", colours.HARMLESS, ":"),
}
"""AUC -> the outcomes that it compares, and the colour and the style of its line."""


@pictures.style()
def answers_figure(document: dict[str, Any]) -> Figure:
    """Draw the projections of a run's prompts by language, coloured by their answers.

    Args:
        document: the contents of `geometry.json`, with a `success`.
    """
    success = document["success"]
    languages = success["languages"]
    groups = [
        group for group in PANELS if any(of["counts"][group]["n"] for of in languages.values())
    ]
    figure = pictures.figure((max(6.5, 1.5 + 0.95 * len(languages)), 1.3 + 3.2 * len(groups)))
    axes = figure.subplots(len(groups), 1, sharey=True, squeeze=False)[:, 0]
    for axis, group in zip(axes, groups, strict=True):
        _answers(axis, group, languages)
        axis.set_ylabel("projection on the unit direction\n(units of the residual stream)")
        if document["position"] == document["monitor"]["position"]:
            _threshold(axis, document["monitor"]["threshold"])
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=5,
        fontsize="small",
    )  # fmt: skip
    pictures.title(
        figure,
        f"{short_name(document['model'])}, condition {success['condition']}: answers by judge "
        f"{success['judge']}, position {document['position']}, layer {document['layer']}"
        f"{control_line(document['direction'])}",
    )
    return figure


def _answers(axis: Axes, group: str, languages: dict[str, Any]) -> None:
    shown = [
        column
        for column in COLUMNS
        if any(of["counts"][group][name] for of in languages.values() for name in column[0])
    ]
    for number, (outcomes, label, colour, mark) in enumerate(shown):
        offset = 0.8 * ((number + 0.5) / len(shown) - 0.5)
        for place, of in enumerate(languages.values()):
            found = of["projections"][group]
            values = [x for outcome in outcomes for x in found.get(outcome, [])]
            axis.scatter(
                beside(place + offset, len(values), 0.7 / len(shown)), values, s=9, c=colour,
                marker=mark, linewidths=0.7, alpha=0.75,
                # Each language is drawn separately, but the legend needs only one entry.
                label=label if place == 0 else None,
            )  # fmt: skip
    for place in range(1, len(languages)):
        axis.axvline(place - 0.5, **GUIDE)
    axis.set_xlim(-0.5, len(languages) - 0.5)
    axis.set_xticks(
        range(len(languages)),
        [f"{name}\n{_counted(of['counts'][group], shown)}" for name, of in languages.items()],
        fontsize="x-small",
    )
    names = " · ".join(label.partition(" (")[0].partition(":")[0] for _, label, *_ in shown)
    axis.set_xlabel(f"language, and number of prompts: {names}", fontsize="small")
    aucs = [of["auc"][AUC_OF[group]] for of in languages.values()]
    if all(auc["auc"] is None for auc in aucs):
        title = f"{PANELS[group]} (no AUC: fewer than {LEAST} prompts of an outcome)"
        axis.set_title(title, fontsize="small", loc="left")
        return
    axis.set_title(
        f"{PANELS[group]}; AUC [95% interval]: {COMPARED[group]}",
        fontsize="small",
        loc="left",
        pad=28,
    )
    for place, auc in enumerate(aucs):
        axis.text(
            place, 1.02, _auc_text(auc), transform=axis.get_xaxis_transform(), ha="center",
            va="bottom", fontsize="x-small",
        )  # fmt: skip


def _counted(counts: dict[str, int], shown: list[Any]) -> str:
    return " · ".join(str(sum(counts[name] for name in outcomes)) for outcomes, *_ in shown)


def _auc_text(auc: dict[str, Any]) -> str:
    if auc["auc"] is None:
        return "no AUC"
    return f"AUC {auc['auc']:.2f}\n[{auc['low']:.2f}, {auc['high']:.2f}]"


def _threshold(axis: Axes, limit: float | None) -> None:
    if limit is not None:
        axis.axhline(limit, **OWN_LAYER, label="threshold of the monitor")


@pictures.style()
def answers_layers_figure(document: dict[str, Any]) -> Figure | None:
    """Draw the AUCs by layer with their intervals, in a panel for each language.

    Args:
        document: the contents of `geometry.json`, with a `success`.

    Returns:
        The figure; None if no language has an AUC at any layer.
    """
    layers = document["success"]["layers"]
    drawn = {
        language: [name for name in LINES if any(_of(layers, language, name, "auc"))]
        for language in document["success"]["languages"]
    }
    drawn = {language: names for language, names in drawn.items() if names}
    if not drawn:
        return None
    columns = min(5, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = pictures.figure((max(7.5, 3 + 2.4 * columns), 1.5 + 2.2 * rows))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis, (language, names) in zip(axes.flat, drawn.items(), strict=False):
        for name in names:
            _by_layer(axis, layers, language, name)
        axis.axhline(0.5, **GUIDE)
        axis.axvline(document["layer"], **OWN_LAYER)
        axis.set_xlim(-0.5, len(layers) - 0.5)
        axis.set_ylim(-0.03, 1.03)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_title(language, fontsize="small")
    for unused in axes.flat[len(drawn) :]:
        unused.set_axis_off()
    figure.supylabel("AUC, 95% interval", fontsize="small")
    figure.supxlabel(
        "layer at whose input the states were read (dotted: the direction's own)", fontsize="small"
    )
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    names = [label.replace(": ", ":\n") for label in handles]
    figure.legend(list(handles.values()), names, loc="outside right center", fontsize="small")
    pictures.title(
        figure,
        f"{short_name(document['model'])}: how well a prompt's place along the direction predicts "
        f"the answer, position {document['position']}{_left_out(document, drawn)}"
        f"{control_line(document['direction'])}",
    )
    return figure


def _left_out(document: dict[str, Any], drawn: Container[str]) -> str:
    """Return a line that lists the languages without a panel; "" if all have one."""
    without = [name for name in document["success"]["languages"] if name not in drawn]
    return f"\nfewer than {LEAST} prompts of an outcome: {', '.join(without)}" if without else ""


def _of(layers: list[dict[str, Any]], language: str, which: str, value: str) -> list[float | None]:
    return [at["languages"][language][which][value] for at in layers]


def _by_layer(axis: Axes, layers: list[dict[str, Any]], language: str, which: str) -> None:
    label, colour, style = LINES[which]
    places = [at["layer"] for at in layers]
    auc, low, high = (gaps(_of(layers, language, which, name)) for name in ("auc", "low", "high"))
    axis.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    axis.plot(places, auc, color=colour, linestyle=style, marker=".", markersize=4, label=label)
