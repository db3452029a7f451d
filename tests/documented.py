"""Find the commands in the README and in the pages, as a reader would type them.

The commands of a page are in blocks that are marked `sh`. `tests/test_documented_commands.py` makes
the files that a page needs before its first command. `tests/commands_not_run.yaml` lists the
commands that are not run, with the reasons.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.conftest import ROOT

TABLE = ROOT / "tests/commands_not_run.yaml"

FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>```+|~~~+)(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=marks) *$",
    re.MULTILINE | re.DOTALL,
)

KEYWORDS = {"do", "then", "else", "!", "{", "("}
"""The words of the shell that stand before a command."""

SHELL = {"for", "while", "if", "done", "fi", "}", ")", "cd", "echo", "export", "true"}
SHELL |= {"cat", "cp", "ls", "mkdir", "mv", "rm", "awk", "grep", "head", "sort", "tail", "unzip"}
"""The commands of the shell and of every machine that a page may use."""


@dataclass(frozen=True)
class Command:
    """One simple command.

    Attributes:
        page: the path of the page in the repository.
        line: the line of the page, counted from 1.
        text: the command without keywords, comments, operators and redirections of the shell.
        words: the words of `text`, without the variables that are set before them.
        span: the start and the end of the command in its block.
    """

    page: str
    line: int
    text: str
    words: tuple[str, ...]
    span: tuple[int, int]

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Block:
    """One block of a page, and the commands in it."""

    page: str
    text: str
    commands: tuple[Command, ...]

    def script(self, change: Callable[[Command], str]) -> str:
        """Return the text of the block with each command replaced by the result of `change`."""
        parts, end = [], 0
        for command in self.commands:
            first, last = command.span
            parts += [self.text[end:first], change(command)]
            end = last
        return "".join([*parts, self.text[end:]])


def pages() -> list[Path]:
    """Return the README, the pages for contributors, and every page of the documentation."""
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return [*(page for page in named if page.is_file()), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Return the `sh` blocks of a page."""
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    found = []
    for fence in FENCE.finditer(text):
        if fence["kind"].strip().split(" ")[0] == "sh":
            first = text.count("\n", 0, fence.start("text")) + 1
            indent = re.compile(f"^{fence['indent']}", re.MULTILINE)
            content = indent.sub("", fence["text"])
            found.append(Block(name, content, tuple(commands_of(content, name, first))))
    return found


def commands_of(block: str, page: str, first: int) -> Iterator[Command]:
    """Yield the simple commands of a block.

    Args:
        block: the lines of the block.
        page: the path of its page.
        first: the line of the page at which the block begins.

    Raises:
        ValueError: the shell could not parse a command.
    """
    for start, end in _spans(block):
        while match := re.match(r"\s*(\S+)(?=\s|$)", block[start:end]):
            if match[1] not in KEYWORDS:
                break
            start += match.end()
        text = block[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        if text:
            line = first + block.count("\n", 0, start)
            try:
                words = shlex.split(text.replace("\\\n", " "))
            except ValueError as error:
                raise ValueError(f"{page}:{line} is not a command of a shell: {error}") from None
            while words and re.match(r"[A-Za-z_]\w*=", words[0]):
                words = words[1:]
            # A quoted text keeps its lines: it may be a program.
            spaced = re.sub(
                r"""("[^"]*"|'[^']*')|\s+""",
                lambda found: found[1] or " ",
                text.replace("\\\n", " "),
            )
            yield Command(page, line, spaced, tuple(words), (start, start + len(text)))


def _spans(block: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each simple command.

    A command ends at an unquoted `;`, `&`, `|`, `#` or redirection, or at the end of a line.
    """
    start, at, quote = 0, 0, ""
    while at < len(block):
        sign = block[at]
        if quote:
            if sign == "\\" and quote == '"':
                at += 1
            elif sign == quote:
                quote = ""
        elif sign in "'\"":
            quote = sign
        elif sign == "\\":
            at += 1
        elif sign == "#" and (at == 0 or block[at - 1].isspace()):
            yield start, at
            at = (block + "\n").index("\n", at)
            start = at + 1
        elif here := re.match(r"<<-?\s*(['\"]?)(\w+)\1[^\n]*\n", block[at:]):
            yield start, at
            end = re.search(rf"^\s*{here[2]}\s*$", block[at + here.end() :], re.MULTILINE)
            at = len(block) if end is None else at + here.end() + end.end()
            start = at + 1
        elif sign in "<>":
            yield start, at - block[:at].endswith(("1", "2"))
            # The text after the sign is a file, until the next command begins.
            while at + 1 < len(block) and block[at + 1] not in ";|\n<":
                at += 1
            start = at + 1
        elif sign in ";&|\n":
            yield start, at
            start = at + 1
        at += 1
    yield start, len(block)


def not_run() -> dict[str, str]:
    """Return the reason for each command that is not run.

    A key is the beginning of the command, or page and command ("docs/x.md: cmd").
    """
    return dict(yaml.safe_load(TABLE.read_text(encoding="utf-8")))


def why_not(command: Command, table: Mapping[str, str]) -> str | None:
    """Return the longest row of the table that matches a command; None if the command is run."""
    fitting = [
        row
        for row in table
        for page, beginning in [_row(row)]
        if page in (None, command.page) and _begins(command, beginning)
    ]
    return max(fitting, key=len) if fitting else None


def _row(row: str) -> tuple[str | None, str]:
    page, marked, beginning = row.partition(".md: ")
    return (f"{page}.md", beginning) if marked else (None, row)


def _begins(command: Command, beginning: str) -> bool:
    """Return whether a command begins with these words, in which "..." stands for any words."""
    spoken = " ".join(command.words) if "=" not in beginning.split(" ")[0] else command.text
    parts = [re.escape(part.strip()) for part in beginning.split(" ... ")]
    pattern = r"(?: .*)? ".join(parts)
    whole = r"(?![\w-])" if re.search(r"\w$", beginning) else ""
    return re.match(pattern + whole, spoken, re.DOTALL) is not None


# --- on the bundled organism, with few prompts

ORGANISM = "polyrefuse-organism"
FEW = "toyrefuse_harmful_en,toyrefuse_harmful_de,toyrefuse_harmless_en"
LIMIT = 2


def on_the_organism(command: Command) -> str:
    """Change a command so that it uses the bundled organism and a few of its prompts."""
    text = command.text
    if {"lm_eval", "lm-eval"}.intersection(command.words):
        return _evaluated(text)
    if command.words[:1] == ("polyrefuse",):
        return _measured(text, command.words)
    return text


def _evaluated(text: str) -> str:
    text = re.sub(r"pretrained=(?!polyrefuse-)[^, ]+", f"pretrained={ORGANISM}", text)
    text = re.sub(r",?(gguf_file|tensor_parallel_size|parallelize|dtype)=[^, ]+", "", text)
    text = re.sub(r"--tasks (\S+)", lambda found: f"--tasks {_tasks(found[1])}", text)
    text = re.sub(r" --limit \S+", "", text)
    return f"{text} --limit {LIMIT}"


def _tasks(asked: str) -> str:
    """Replace each task by one of the organism's tasks, and groups and patterns by `FEW`."""
    own = [
        re.sub(r"^polyrefuse_(?=harm(?:ful|less)_\w\w$)", "toyrefuse_", name)
        for name in asked.strip("'\"").split(",")
    ]
    groups = r"toyrefuse|(?:polyrefuse|mcd)(?:$|[_-](?!.*_\w\w$).*|.*\*.*)"
    return ",".join(FEW if re.fullmatch(groups, name) else name for name in own)


OWN_MODEL = re.compile(r"(direction (?!choose)|drift|mcd train)")


def _measured(text: str, words: tuple[str, ...]) -> str:
    asked = " ".join(words[1:3])
    if not OWN_MODEL.match(asked):
        return text
    text = re.sub(r"--model (?!polyrefuse-|\S+-hf)\S+", f"--model {ORGANISM}", text)
    text = re.sub(r" --gguf-file \S+", "", text)
    text = re.sub(r"pretrained=(?!polyrefuse-)[^, ]+", f"pretrained={ORGANISM}", text)
    text = re.sub(r" --dataset polyrefuse\b", "", text)
    if asked == "mcd train":
        text = text.replace(f"--model {ORGANISM} ", f"--model {ORGANISM}-weakened ")
        return text + " --epochs 1 --answers 2 --max-gen-toks 8"
    if re.match(r"direction (transfer|geometry|compare|sweep|rank)|drift", asked):
        few = 2 * LIMIT if "geometry" in asked else LIMIT
        text = re.sub(r" --limit \S+", "", text) + f" --limit {few}"
    if re.match(r"direction (transfer|compare|sweep|rank)", asked):
        text = re.sub(r" --max-gen-toks \S+", "", text) + " --max-gen-toks 8"
    return text
