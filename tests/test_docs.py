"""The documentation: links and pictures resolve, the nav is whole, generated pages are new."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from tests.conftest import ROOT
from tests.documented import FENCE

DOCS = ROOT / "docs"


def module(name: str) -> ModuleType:
    """A module of `docs/`, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def pages() -> list[Path]:
    """Every Markdown file that is tracked, or about to be, but for fixtures of tests."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [ROOT / name for name in listed if (ROOT / name).is_file() and "tests/" not in name]


PAGES = pages()

LINK = re.compile(
    r"\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<inline>[^)\s]+)(?:\s+\"[^\"]*\")?\)"
    r"|^ *\[[^\]]+\]: (?P<apart>\S+)"
    r"|\b(?:href|src)=\"(?P<html>[^\"]+)\"",
    re.MULTILINE,
)


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Where a page leads inside the repository, as it is written."""
    without_spans = re.sub(r"(`+)[^\n]*?[^`\n]\1(?!`)", "code", text_of(page))
    found = (
        next(target for target in link.groupdict().values() if target)
        for link in LINK.finditer(without_spans)
    )
    return [link for link in found if not re.match(r"[a-z][a-z+.-]*:|//", link)]


def slug(heading: str) -> str:
    """GitHub's anchor of a heading, which mkdocs.yml has the site use too."""
    text = re.sub(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[*`]|<[^>]+>|\{[^}]*\}\s*$", "", text).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page; of headings with the same text only the first."""
    text = text_of(page)
    headings = re.findall(r"^#{1,6} (.+?)\s*#*$", text, re.MULTILINE)
    named = re.findall(r"\{[^}]*#([\w-]+)[^}]*\}|\bid=\"([^\"]+)\"", text)
    return {*map(slug, headings), *(one or other for one, other in named)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            missing.append(f"{link}: there is no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            missing.append(f"{link}: {target.name} has no heading of that anchor")
    assert not missing, f"{page.relative_to(ROOT)}:\n" + "\n".join(missing)


def test_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[a](b.md#c) ![`x`](y.png) [`code`](d.py) `[not](e.md)` [out](https://f.g)\n"
        '```sh\n[no](h.md)\n```\n[ref]: i.md\n<img src="j.svg">\n[k\nl](m.md "title")\n'
    )
    assert links(page) == ["b.md#c", "y.png", "d.py", "i.md", "j.svg", "m.md"]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("A judge of your own", "a-judge-of-your-own"),
        ("`baseline.json`", "baselinejson"),
        ("[Judges](judges.md): what is *counted*?", "judges-what-is-counted"),
        ("off_language_rate, and n = 5", "off_language_rate-and-n--5"),
        ("Größe – klein", "größe--klein"),
        ("Named {#other}", "named"),
    ],
)
def test_anchors_are_those_of_github_and_the_site(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor
    slugs = pytest.importorskip("pymdownx.slugs", reason="mkdocs-material is not installed")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]| *\{.*\}$", r"\1", heading)
    assert slugs.slugify(case="lower")(plain, "-") == anchor


# --- the site


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, which names a function."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def settings() -> dict[str, Any]:
    read: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    return read


def in_nav(entry: Any) -> list[str]:
    """The pages of a nav, or of a part of one."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in in_nav(part)]


def test_every_page_is_in_the_nav_once() -> None:
    adopted = set(module_hooks().ADOPTED.values())
    there = {str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)}
    listed = Counter(in_nav(settings()["nav"]))
    assert {page for page, times in listed.items() if times > 1} == set()
    assert there - listed.keys() == set(), "pages that mkdocs.yml does not name"
    assert listed.keys() - there - adopted == set(), "pages that mkdocs.yml names and are not there"


def module_hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e '.[docs]'")
    return module("hooks")


@pytest.mark.parametrize(
    ("path", "markdown", "turned"),
    [
        ("CONTRIBUTING.md", "[a](docs/rooms.md#b)", "[a](rooms.md#b)"),
        ("docs/how-to/x.md", "[a](../../CONTRIBUTING.md)", "[a](../contributing.md)"),
        ("docs/how-to/x.md", "[a](y.md#z)", "[a](y.md#z)"),
        ("docs/how-to/x.md", "![p](../p.png)", "![p](../p.png)"),
        ("docs/how-to/x.md", "[`s.py`](../../tests/s.py)", "`s.py`"),
        ("docs/how-to/x.md", "[the\ntests](../../tests/s.py)", "the\ntests (`tests/s.py`)"),
        ("docs/x.md", "[a](#b) [c](https://d.e)", "[a](#b) [c](https://d.e)"),
        ("docs/x.md", "```\n[a](../b)\n```\n", "```\n[a](../b)\n```\n"),
    ],
)
def test_links_are_turned_for_the_site(path: str, markdown: str, turned: str) -> None:
    assert module_hooks().for_the_site(markdown, path) == turned


@pytest.mark.parametrize(
    ("html", "asks"),
    [
        ('<a href="https://arxiv.org">', False),
        ('<script src="assets/a.js">', False),
        ('<link rel="canonical" href="https://a.b">', False),
        ('<script src="https://cdn.a.b/x.js">', True),
        ("<img alt=x src='//a.b/c.png'>", True),
        ('<link rel="stylesheet" href="https://fonts.a.b/css">', True),
        ('<link href="https://fonts.a.b" rel="preconnect">', True),
        ("@font-face { src: url(https://a.b/c.woff2) }", True),
        ("@import url('//a.b/c.css');", True),
    ],
)
def test_what_asks_another_server_is_found(html: str, asks: bool) -> None:
    assert bool(module_hooks().requests(html)) is asks


def test_names_in_tables_break_where_a_reader_expects_it() -> None:
    html = "<td>a/b <code>c_d/__e__.py</code></td><p><code>f_g</code></p>"
    broken = "<td>a/b <code>c_<wbr>d/__<wbr>e__.py</code></td><p><code>f_g</code></p>"
    assert module_hooks().breakable(html) == broken
    assert settings()["extra_css"] == ["site.css"]
    assert "word-break: normal" in (DOCS / "site.css").read_text(encoding="utf-8")


# --- the generated pages


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return module("generate")


@pytest.mark.parametrize("name", ["task-list", "model-arguments", "command-line", "result-schema"])
def test_a_generated_page_is_new(generator: ModuleType, name: str) -> None:
    if name == "command-line" and not _is_pinned("typer"):
        pytest.skip("another typer than constraints.txt pins words the options in its own way")
    page = f"reference/{name}.md"
    there = (DOCS / page).read_text(encoding="utf-8")
    assert there == made(generator)[page], f"docs/{page} is stale: run `python docs/generate.py`"


_made: dict[str, str] = {}


def made(generator: ModuleType) -> dict[str, str]:
    if not _made:
        _made.update(generator.pages())
    return _made


def _is_pinned(package: str) -> bool:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    try:
        return f"{package}=={version(package)}" in pins
    except PackageNotFoundError:
        return False


def test_the_check_names_a_stale_page(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(generator, "DOCS", tmp_path)
    monkeypatch.setattr(generator, "pages", lambda: {"reference/a.md": "new\n"})
    assert generator.main(["--check"]) == 1
    assert "docs/reference/a.md is stale" in capsys.readouterr().err
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    assert (tmp_path / "reference/a.md").read_text() == "new\n"


def test_the_command_line_is_the_same_in_any_terminal() -> None:
    """It is read from the parameters, not from what a terminal shows."""
    program = (
        "import sys; sys.path[:0] = ['docs', '.']; import generate, hashlib; "
        "print(hashlib.sha256('\\n'.join(generate.command_line()).encode()).hexdigest())"
    )
    sums = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
            env=os.environ | {"COLUMNS": columns, "TERMINAL_WIDTH": columns, "TERM": term},
        ).stdout
        for columns, term in (("40", "dumb"), ("200", "xterm-256color"))
    }  # fmt: skip
    assert len(sums) == 1


def test_descriptions_of_a_docstring(generator: ModuleType) -> None:
    docstring = (
        "About `a`: the first.\n\nArgs:\n    b, c (int): of both,\n        in two lines.\n"
        "    d: ends here\n\nThe arguments, and\n\n- `e`: fifth;\n- `f`: sixth.\n"
    )
    assert generator.descriptions(docstring) == {
        "a": "The first.",
        "b": "Of both, in two lines.",
        "c": "Of both, in two lines.",
        "d": "Ends here.",
        "e": "Fifth.",
        "f": "Sixth.",
    }


def test_an_argument_without_a_meaning_is_named(generator: ModuleType) -> None:
    with pytest.raises(LookupError, match="AskedX does not say what the argument y means"):
        generator._meaning({}, "y", "AskedX")


def test_the_sizes_are_those_of_the_prompts(generator: ModuleType, mirror: Path) -> None:
    assert generator.count(generator.sizes()) == json.loads(
        generator.SIZES.read_text(encoding="utf-8")
    )
