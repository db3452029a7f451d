"""Draw the figure of a monitor: ROC curves, and a table of the rates at its threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.marks import GUIDE, OWN_LAYER, control_line, language_lines
from polyrefuse_shared import pictures
from polyrefuse_shared.colours import INK
from polyrefuse_shared.pictures import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@pictures.style()
def monitor_figure(document: dict[str, Any]) -> Figure:
    """Draw a curve for each language, with a dot at the threshold, beside a table of the rates.

    Args:
        document: the contents of `geometry.json`.
    """
    monitor = document["monitor"]
    languages = monitor["languages"]
    figure = pictures.figure((14, max(6.0, 1.6 + 0.31 * len(languages))))
    curves, table = figure.subplots(1, 2, width_ratios=(1, 1.7))
    for language, line in language_lines(list(languages)).items():
        _curve(curves, language, languages[language], line)
    curves.plot([0, 1], [0, 1], **GUIDE)
    curves.axvline(monitor["false_alarms"], **OWN_LAYER)
    curves.set_xlim(-0.02, 1.02)
    curves.set_ylim(-0.02, 1.02)
    dots = "" if monitor["threshold"] is None else "; dots: the threshold's"
    curves.set_xlabel(f"false alarms: share of harmless prompts\n(dotted: the allowed rate{dots})")
    curves.set_ylabel("detected: share of harmful prompts")
    handles, labels = curves.get_legend_handles_labels()
    curves.legend(handles, labels, fontsize="x-small", ncols=2, loc="lower right")
    _table(table, languages)
    pictures.title(
        figure,
        f"{short_name(document['model'])}: {describe(monitor)}"
        f"{control_line(document['direction'])}",
    )
    return figure


def describe(monitor: dict[str, Any]) -> str:
    """Describe the monitor in a sentence without a full stop."""
    place = f"the projection at the last token, layer {monitor['layer']}"
    calibration = (
        f"{monitor['calibration_prompts']} harmless prompts in {monitor['calibrated_in']} at "
        f"{100 * monitor['false_alarms']:g}% false alarms"
    )
    if monitor["threshold"] is None:
        return f"no threshold on {place}: {calibration} are too few to calibrate on"
    return f"alarm where {place}, is above {monitor['threshold']:.3g}, calibrated on {calibration}"


def _curve(axis: Axes, language: str, of: dict[str, Any], line: dict[str, Any]) -> None:
    if of["roc"] is None:
        return
    axis.plot(*zip(*of["roc"], strict=True), label=language, **line)
    alarms, detected = of["false_alarms"], of["detected"]
    if alarms and detected:
        axis.plot(
            alarms["rate"], detected["rate"], marker="o", markersize=5, color=line["color"],
            markeredgecolor=INK, clip_on=False, zorder=3,
        )  # fmt: skip


def _table(axis: Axes, languages: dict[str, Any]) -> None:
    axis.set_axis_off()
    head = ["language", "false alarms, 95%", "n", "detected, 95%", "n", "AUC, 95%"]
    cells = [
        [
            language,
            *(cell for rate in ("false_alarms", "detected") for cell in _rate(of[rate])),
            "-"
            if of["auc"] is None
            else f"{of['auc']:.3f} [{of['auc_low']:.3f}, {of['auc_high']:.3f}]",
        ]
        for language, of in languages.items()
    ]
    drawn = axis.table(
        cells,
        colLabels=head,
        colWidths=[0.1, 0.26, 0.06, 0.26, 0.06, 0.26],
        cellLoc="center",
        loc="center",
        edges="horizontal",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    drawn.scale(1, 1.35)
    for cell in drawn.get_celld().values():
        cell.set_edgecolor(INK)


def _rate(rate: dict[str, Any] | None) -> tuple[str, str]:
    if rate is None:
        return "-", "-"
    share, low, high = (100 * rate[name] for name in ("rate", "low", "high"))
    return f"{share:.1f}% [{low:.1f}, {high:.1f}]", str(rate["n"])
