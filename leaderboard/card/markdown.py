"""Write a card as Markdown: a model card that begins with the YAML block that hubs read."""

from __future__ import annotations

from collections.abc import Iterator

from polyrefuse_leaderboard.card.parts import Card, CardTable, Section
from polyrefuse_leaderboard.markdown_parts import code, escaped, head, line
from polyrefuse_leaderboard.our_files import CARD_MARK

TAGS = ("lm-eval-polyrefuse", "safety")
"""The tags by which a hub finds models with such a card."""


def to_markdown(card: Card) -> str:
    """Return the text of the whole file."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        model_name=card.model, eval_results=list(card.results) or None, tags=list(TAGS)
    )
    yield from ("---", CARD_MARK, data.to_yaml().strip(), "---", "")
    yield from (f"# Safety card of {escaped(card.model)}", "")
    yield f"Measured by lm-eval-polyrefuse in the study {escaped(card.study)}."
    for section in card.sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield from ("", f"## {escaped(section.title)}")
    for paragraph in section.text:
        yield from ("", escaped(paragraph))
    for table in section.tables:
        yield from ("", f"**{escaped(table.caption)}**", "", *_table(table))
    if section.items:
        yield from ("", *(f"- {escaped(item)}" for item in section.items))
    for command in section.commands:
        yield from ("", f"**{escaped(command.job)}**", "", *code(command.typed))


def _table(table: CardTable) -> Iterator[str]:
    yield from head(*map(escaped, table.columns))
    for row in table.rows:
        yield line(*map(escaped, row))
