"""Hooks of mkdocs, which add pages from outside `docs/`, rewrite links and refuse outside requests.

Links lead to the place of a file in the repository, so that they also work where somebody reads the
Markdown itself. In the site, links to the pages in `ADOPTED` lead to their copies, and links to
other files outside `docs/` become the file's path as text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent

ADOPTED = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""File of the repository outside `docs/` -> its page in the site."""

FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^)\s]+)\)")

ASKS = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=[\"']?(https?:)?//[^>]*"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*"
    r"\bhref=[\"']?(https?:)?//[^>]*"
    r"|@import\s+[^;]*//[^;]*|url\([\"']?(https?:)?//[^)]*\)",
    re.IGNORECASE,
)
"""Matches HTML and CSS for which a browser asks another server before a reader clicks on it."""


CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
SEAM = re.compile(r"(?<=[/_])(?=[^\W_])")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages in `ADOPTED`, as if they lay in `docs/`."""
    for name, page in ADOPTED.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page for the site."""
    adopted = {uri: name for name, uri in ADOPTED.items()}
    uri = page.file.src_uri
    return for_the_site(markdown, adopted.get(uri, f"docs/{uri}"))


def for_the_site(markdown: str, path: str) -> str:
    """Return a page with its links rewritten for the site. Blocks of code stay as they are.

    Args:
        markdown: the text of the page.
        path: the path of its file in the repository.
    """
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [_rewritten(markdown[end : fence.start()], path), fence[0]]
        end = fence.end()
    return "".join([*parts, _rewritten(markdown[end:], path)])


def _rewritten(text: str, path: str) -> str:
    folder = posixpath.dirname(path)
    own = posixpath.dirname(_in_site(path) or "")

    def rewrite(link: re.Match[str]) -> str:
        to, hash_, anchor = link["to"].partition("#")
        if not to or re.match(r"[a-z][a-z+.-]*:|//", to):
            return link[0]
        target = posixpath.normpath(posixpath.join(folder, to))
        inside = _in_site(target)
        if inside is None:
            shown = link["text"].strip("`")
            named = posixpath.basename(target) in shown
            return link["text"] if named else f"{link['text']} (`{target}`)"
        shown = posixpath.relpath(inside, own or ".")
        return f"{link['image']}[{link['text']}]({shown}{hash_}{anchor})"

    return LINK.sub(rewrite, text)


def _in_site(path: str) -> str | None:
    """Return the path in the site of a file of the repository, or None if the site lacks it."""
    if path in ADOPTED:
        return ADOPTED[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Let names in tables break, and refuse a page that needs another server to be shown.

    Raises:
        PluginError: the page has a script, style, font or picture from another server.
    """
    if asked := requests(output):
        raise PluginError(f"{page.file.src_uri} asks another server: {asked[0]}")
    return breakable(output)


def breakable(html: str) -> str:
    """A page whose names in tables break after `/` and `_`, and are copied without the breaks.

    `site.css` keeps them from breaking anywhere else.
    """

    def broken(code: re.Match[str]) -> str:
        return f"<code>{SEAM.sub('<wbr>', code[1])}</code>"

    return CELL.sub(lambda cell: re.sub(r"<code>([^<]*)</code>", broken, cell[0]), html)


def requests(html: str) -> list[str]:
    """Return the parts of a page or a style sheet that make a browser ask another server."""
    return [found[0] for found in ASKS.finditer(html)]
