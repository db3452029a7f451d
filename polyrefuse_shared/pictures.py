"""Make figures without a window system, and save them as PNG and as SVG.

A figure with the name NAME is written as `NAME.png`, which has a light background, and as
`NAME.svg`, which follows the reader's preference for light or dark pages. Its numbers are in a file
beside it: in `NAME.json`, or in the document whose name begins the figure's name. For example,
`geometry.json` has the numbers of `geometry_layers.png`.
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
"""The formats in which every figure is written."""

DOTS = 150
"""The pixels per inch of a PNG picture."""

SOFTWARE = "lm-eval-polyrefuse"
"""The program that each PNG picture names as its author."""

STYLE: dict[Any, Any] = {
    # Text stays text, so that screen readers can read it and a page can choose the font.
    "svg.fonttype": "none",
    # A fixed salt makes the same picture have the same bytes.
    "svg.hashsalt": "polyrefuse",
    # A dollar sign in the name of a folder or a token must not begin a formula.
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
"""The settings of matplotlib for every figure."""

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
"""The CSS that exchanges the text colour and the background of an SVG picture on a dark page.
Programs without media queries show the light picture."""

TITLE_LETTERS = 12.5
"""The letters per inch of a title, a few less than fit on average."""

LONGEST_NAME = 40
"""The most characters of a model's name in a title."""


def short_name(model: str) -> str:
    """Return a model's name without its folder or owner, shortened in the middle if it is long.

    A snapshot in the cache of a hub has the name of the model, and not the checksum of the
    snapshot.
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
    """Draw and save with `STYLE`, whatever your own settings of matplotlib are."""
    import matplotlib
    from cycler import cycler

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        matplotlib.rcParams["axes.prop_cycle"] = cycler(color=list(PALETTE.values()))
        yield


def figure(size: tuple[float, float]) -> Figure:
    """Make an empty figure of a size in inches."""
    # pyplot is not used, because it would look for a window system and keep every figure alive.
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def title(drawn: Figure, text: str) -> None:
    """Put a title over a figure, on as many lines as its width needs."""
    drawn.suptitle(lines(text, drawn.get_figwidth()), fontsize="medium")


def lines(text: str, inches: float) -> str:
    """Break the lines of a title that are too long for a width in inches.

    matplotlib's own wrapping reads dollar signs as formulas, even if formulas are turned off.
    """
    return "\n".join(
        textwrap.fill(line, max(1, int(inches * TITLE_LETTERS)), break_on_hyphens=False)
        for line in text.splitlines()
    )


def files(name: str, drawn: Figure, numbers: object = None) -> dict[str, bytes]:
    """Return the files of a figure, by their names.

    Args:
        name: the name of the figure, without an ending.
        drawn: the figure.
        numbers: the contents of `NAME.json`; None if a document in the folder has the numbers.
    """
    written = {f"{name}.png": png(drawn), f"{name}.svg": svg(drawn).encode()}
    if numbers is not None:
        written[f"{name}.json"] = json_bytes(numbers)
    return written


def json_bytes(numbers: object) -> bytes:
    """Return the numbers of a figure as JSON.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False).encode()


@style()
def png(drawn: Figure) -> bytes:
    """Return the figure as PNG, on a light background."""
    picture = io.BytesIO()
    with _any_letters():
        drawn.savefig(picture, format="png", dpi=DOTS, metadata={"Software": SOFTWARE})
    return picture.getvalue()


@style()
def svg(drawn: Figure) -> str:
    """Return the figure as SVG, which is dark on a dark page.

    The same figure always gives the same text.
    """
    picture = io.StringIO()
    with _any_letters():
        drawn.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    return picture.getvalue().replace("</metadata>", f"</metadata>\n {DARK}", 1)


@contextmanager
def _any_letters() -> Iterator[None]:
    """Allow letters that our font lacks. The reader's fonts show them, or a box stands for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)
        yield
