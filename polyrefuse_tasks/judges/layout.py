"""How a response is laid out: does a title stand over it, where does its list begin."""

import re

_TITLE = re.compile(r"\s*(?:#{1,6}[ \t]+\S|\*\*[^*\n]{3,120}\*\*[ \t]*(?:\n|$))")
_ITEM = re.compile(r"\n[ \t>]*(?:#{1,6}[ \t]|[-*+•][ \t]|(?:\*\*)?\d{1,3}[.)、])")


def has_title(response: str) -> bool:
    """Whether the response opens with a Markdown heading or a line all in bold."""
    return _TITLE.match(response) is not None


def first_list_item(response: str) -> int | None:
    """Where the first list item, numbered line or heading begins, in characters; None without."""
    item = _ITEM.search("\n" + response)
    return None if item is None else item.start()
