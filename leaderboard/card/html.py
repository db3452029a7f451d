"""Write a card as one self-contained HTML page without a script."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from polyrefuse_leaderboard.card.parts import Card
from polyrefuse_leaderboard.page import charts

if TYPE_CHECKING:
    from jinja2 import Template


def to_html(card: Card) -> str:
    """Return the text of the page."""
    numbered = [
        (
            section,
            [
                (picture, charts.inline(picture.svg, f"s{place}p{number}"))
                for number, picture in enumerate(section.pictures)
            ],
        )
        for place, section in enumerate(card.sections)
    ]
    return _template().render(card=card, sections=numbered, style=_style())


def unbroken(cell: str) -> str:
    """Let a cell break between a value, its interval and its n, and not within them."""
    return re.sub(
        r"\([^()]*\d to [^()]*\)|n = \d+", lambda found: found[0].replace(" ", "\xa0"), cell
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["unbroken"] = unbroken
    return environment.from_string(
        (resources.files(__package__) / "card.html").read_text(encoding="utf-8")
    )


@cache
def _style() -> str:
    page = resources.files("polyrefuse_leaderboard.page")
    own = resources.files(__package__) / "card.css"
    return (page / "style.css").read_text(encoding="utf-8") + own.read_text(encoding="utf-8")
