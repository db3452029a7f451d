"""How figures are made and saved: without a window system, as PNG and as SVG.

A figure called NAME is written as `NAME.png`, which has a light background, and as `NAME.svg`,
which follows the reader's preference for light or dark pages. Its numbers are beside it: in
`NAME.json`, or in the document whose name the figure's name begins with, as `geometry_layers.png`
has its numbers in `geometry.json`.
"""

from __future__ import annotations

import io
import json
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from polyrefuse_shared.colours import DARK_INK, DARK_PAPER, INK, PALETTE, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
"""Formats in which every figure is written."""

DOTS = 150
"""Pixels of a PNG picture in an inch."""

SOFTWARE = "lm-eval-polyrefuse"
"""Stands in each PNG picture as the program that wrote it."""

STYLE: dict[Any, Any] = {
    # Text stays text, for screen readers and for a page's own font.
    "svg.fonttype": "none",
    # The same picture has the same bytes.
    "svg.hashsalt": "polyrefuse",
    # A dollar in a name, of a folder or of a token, begins no formula.
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.facecolor": PAPER,
    "legend.edgecolor": INK,
    "legend.labelcolor": INK,
    "legend.framealpha": 0.85,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.3,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
}
"""Settings of matplotlib for every figure."""

DARK = "".join(
    [
        "<style>@media (prefers-color-scheme: dark) {",
        *(
            f'[style*="{part}: {light}"] {{ {part}: {dark} !important }}'
            for light, dark in ((INK, DARK_INK), (PAPER, DARK_PAPER))
            for part in ("fill", "stroke")
        ),
        "}</style>",
    ]
)
"""Exchanges ink and background of an SVG picture on a dark page. Programs that know no media
queries see the light picture."""

TITLE_LETTERS = 12.5
"""Letters of a title in an inch: a few fewer than go into one on average."""

LONGEST_NAME = 40
"""Characters of a model's name in a title, at most."""


def short_name(model: str) -> str:
    """A model's name without its folder or owner, shortened in the middle where it is long.

    A snapshot in a hub's cache is called by the model's name, not by the snapshot's checksum.
    """
    cached = re.search(r"(?:^|/)models--(?:.+?--)?([^/]+)/snapshots/", model)
    name = cached[1] if cached else PurePosixPath(model.replace("\\", "/")).name or model
    name = "".join(letter for letter in name if letter.isprintable())
    if len(name) <= LONGEST_NAME:
        return name
    half = (LONGEST_NAME - 1) // 2
    return f"{name[: LONGEST_NAME - 1 - half]}…{name[-half:]}"


@contextmanager
def style() -> Iterator[None]:
    """Draw and save with `STYLE`, whatever the user's own settings of matplotlib are."""
    import matplotlib
    from cycler import cycler

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        matplotlib.rcParams["axes.prop_cycle"] = cycler(color=list(PALETTE.values()))
        yield


def figure(size: tuple[float, float]) -> Figure:
    """An empty figure; its size is in inches."""
    # Without pyplot: no window system is looked for, and no figure outlives its function.
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def title(drawn: Figure, text: str) -> None:
    """Put a title over a figure, on as many lines as its width takes."""
    drawn.suptitle(lines(text, drawn.get_figwidth()), fontsize="medium")


def lines(text: str, inches: float) -> str:
    """Break a title's lines where they are too long for a width.

    Matplotlib's own wrapping takes dollars for formulas, even where formulas are turned off.
    """
    return "\n".join(
        textwrap.fill(line, max(1, int(inches * TITLE_LETTERS)), break_on_hyphens=False)
        for line in text.splitlines()
    )


def files(name: str, drawn: Figure, numbers: object = None) -> dict[str, bytes]:
    """The files of a figure, by their names.

    Args:
        name: of the figure, without an ending.
        drawn: the figure.
        numbers: what `NAME.json` has in it; None where a document of the folder has the numbers.
    """
    written = {f"{name}.png": png(drawn), f"{name}.svg": svg(drawn).encode()}
    if numbers is not None:
        written[f"{name}.json"] = json_bytes(numbers)
    return written


def json_bytes(numbers: object) -> bytes:
    """The numbers of a figure as JSON.

    Raises:
        ValueError: one is NaN or infinite.
    """
    return json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False).encode()


@style()
def png(drawn: Figure) -> bytes:
    """The figure as PNG, on a light background."""
    picture = io.BytesIO()
    with _any_letters():
        drawn.savefig(picture, format="png", dpi=DOTS, metadata={"Software": SOFTWARE})
    return picture.getvalue()


@style()
def svg(drawn: Figure) -> str:
    """The figure as SVG, which is dark on a dark page; the same text for the same figure."""
    picture = io.StringIO()
    with _any_letters():
        drawn.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return picture.getvalue().replace("</metadata>", f"</metadata>\n {DARK}", 1)


@contextmanager
def _any_letters() -> Iterator[None]:
    """Leave it to the reader's fonts, or to a box, to show letters that our font does not have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)
        yield
