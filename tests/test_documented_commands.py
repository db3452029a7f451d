"""Every command of the README and the pages: its arguments are parsed, and it is run.

What is run is on the bundled organism with few prompts, page by page, one command after the other;
`pytest -m slow` runs it all, and a sample runs in plain `pytest`. What cannot be run here stands in
`commands_not_run.yaml` with the reason. A new page needs nothing but this: each command in a block
that is marked `sh`, in the order in which a reader types them.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import polyrefuse
from polyrefuse_shared.errors import UserError
from tests import own_prompts, small_study
from tests.commands import run_in_process
from tests.conftest import ROOT, SHARED
from tests.documented import (
    FENCE,
    SHELL,
    Block,
    Command,
    blocks,
    commands_of,
    not_run,
    on_the_organism,
    pages,
    why_not,
)

PAGES = {str(page.relative_to(ROOT)): blocks(page) for page in pages()}
COMMANDS = [command for found in PAGES.values() for block in found for command in block.commands]
TABLE = not_run()

RUN = {"polyrefuse", "lm_eval", "lm-eval", "python", "pytest"}
"""Programs that a test runs; the others are the shell's own, or stand in the table."""

OPEN = ("polyrefuse leaderboard check", "polyrefuse data verify", "polyrefuse doctor")
OPEN += ("pytest --polyrefuse-baseline",)
"""Commands that end with 1 where what they look at is not so, which is no fault of the page's."""

QUICK = re.compile(
    r"polyrefuse (data (status|path|verify|add)|organism path|leaderboard power|study init"
    r"|judge (agreement labels\.jsonl|import)) ?"
)
"""Commands without a model, which take no time."""


# --- what a page may say


def test_commands_are_found() -> None:
    found = {command.page for command in COMMANDS}
    assert {"README.md", "CONTRIBUTING.md", "docs/reference/command-line.md"} <= found
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("page", PAGES)
def test_a_page_marks_its_commands(page: str) -> None:
    """In a block of another kind, or an indented one, no test would find a command."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        kind = fence["kind"].strip()
        assert kind not in ("bash", "shell", "console", "zsh"), (
            f"{page} has a block marked {kind}: mark it sh"
        )
        begins = re.search(r"^\s*(\$ )?(polyrefuse|lm_eval) [a-z-]", fence["text"], re.MULTILINE)
        if kind == "" and begins:
            pytest.fail(f"{page} has a command in a block that is not marked sh: {begins[0]}")
    rest = FENCE.sub("", text)
    indented = re.search(r"^(?: {4,}|\t)(?:polyrefuse|lm_eval) [a-z-].*", rest, re.MULTILINE)
    assert not indented, f"{page} has a command outside of a block marked sh: {indented[0].strip()}"


@pytest.mark.parametrize("page", PAGES)
def test_each_command_is_parsed(page: str) -> None:
    """Options exist, values are allowed, models and tasks are known; run or not."""
    own = _own_datasets(page)
    wrong = [
        f"{command.place}: {command.text}\n    {fault}"
        for block in PAGES[page]
        for command in block.commands
        for fault in [fault_of(command, own)]
        if fault
    ]
    assert not wrong, "\n".join(wrong)


def test_each_command_is_run_or_listed() -> None:
    unknown = [
        f"{command.place}: {command.text}"
        for command in COMMANDS
        if command.words and command.words[0] not in RUN | SHELL and why_not(command, TABLE) is None
    ]
    assert not unknown, (
        "No test runs these commands, and tests/commands_not_run.yaml does not say why:\n"
        + "\n".join(unknown)
    )


def test_each_row_of_the_table_is_of_a_command() -> None:
    used = {why_not(command, TABLE) for command in COMMANDS}
    idle = [row for row in TABLE if row not in used]
    assert not idle, f"tests/commands_not_run.yaml lists what no page shows: {'; '.join(idle)}"
    assert all(len(reason.split()) > 2 for reason in TABLE.values()), "each row has its reason"


def fault_of(command: Command, own: set[str]) -> str | None:
    """What is wrong with a command's arguments; None where nothing is.

    Args:
        command: of a page.
        own: the datasets that the page adds.
    """
    # A variable of the shell's stands for a number.
    words = [re.sub(r"\$\{?\w+\}?", "0", word) for word in command.words]
    if words[:1] == ["polyrefuse"]:
        return _fault_of_ours(words[1:])
    if at := next((words.index(name) for name in ("lm_eval", "lm-eval") if name in words), None):
        return _fault_of_lm_eval(words[at + 1 :], own)
    if words[:1] in (["lm_eval"], ["lm-eval"]):
        return _fault_of_lm_eval(words[1:], own)
    if words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
        place = ROOT.joinpath(*words[2].split("."))
        if not (place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()):
            return f"there is no {words[2]}"
    return None


@cache
def _sub_command(name: str) -> Any:
    module, app = polyrefuse.COMMANDS[name][0].split(":")
    return typer.main.get_command(getattr(importlib.import_module(module), app))


def _fault_of_ours(words: list[str]) -> str | None:
    if not words or words[0].startswith("-"):
        return None if words in (["--version"], ["--help"], ["--install-completion"]) else "unknown"
    if words[0] not in polyrefuse.COMMANDS:
        return f"there is no sub-command {words[0]}"
    command, words = _sub_command(words[0]), words[1:]
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    if words == ["--help"]:
        return None
    try:
        # Without `resilient_parsing`: what is missing, unknown or of the wrong kind raises.
        with contextlib.redirect_stderr(io.StringIO()):
            command.make_context(command.name, words)
    except Exception as error:
        return getattr(error, "message", None) or f"{type(error).__name__}: {error}"
    return None


@cache
def _parser() -> argparse.ArgumentParser:
    from lm_eval._cli import HarnessCLI

    parser: argparse.ArgumentParser = HarnessCLI()._parser
    return parser


@cache
def _tasks() -> frozenset[str]:
    from polyrefuse_tasks.configs import files

    named = (re.search(r"^(?:task|group): (\S+)$", text, re.MULTILINE) for text in files().values())
    return frozenset(found[1] for found in named if found)


def _fault_of_lm_eval(words: list[str], own: set[str]) -> str | None:
    said = io.StringIO()
    if words[:1] not in (["run"], ["ls"], ["validate"]):
        words = ["run", *words]
    try:
        with contextlib.redirect_stderr(said):
            asked = _parser().parse_args(words)
    except (SystemExit, ValueError) as error:
        return (said.getvalue().strip() or str(error)).splitlines()[-1]
    if words[0] != "run":
        return None
    tasks = asked.tasks if isinstance(asked.tasks, list) else str(asked.tasks or "").split(",")
    for name in tasks:
        ours = name.startswith(("polyrefuse", "toyrefuse", "mcd_", "mcd-", "xstest"))
        added = any(name.startswith(f"polyrefuse_{one}") for one in own)
        if ours and not added and not fnmatch.filter(_tasks(), name):
            return f"there is no task {name}"
    return _fault_of_model(asked.model, asked.model_args or {})


def _fault_of_model(name: str, given: Any) -> str | None:
    from lm_eval.api.registry import model_registry

    from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
    from polyrefuse_models.registration import MODELS
    from polyrefuse_models.wrappers import hf
    from polyrefuse_models.wrappers.known_arguments import stand_ins, try_arguments

    importlib.import_module("lm_eval.models")
    if name not in {*MODELS, *model_registry}:
        return f"there is no --model {name}"
    if name not in MODELS:
        return None
    arguments = dict(given) if isinstance(given, dict) else {}
    arguments |= {"pretrained": "polyrefuse-organism"}
    arguments.pop("gguf_file", None)
    wrapper = {
        "baseline": hf.BaselineHF,
        "ablated": hf.AblatedHF,
        "refusal-added": hf.RefusalAddedHF,
        "mcd": hf.McdHF,
    }[name.rpartition("-")[0]]
    with stand_ins() as (direction, prompt):
        if "direction" in arguments:
            arguments["direction"] = direction
        if arguments.get("prompt") not in (None, *SAFETY_PROMPTS):
            arguments["prompt"] = prompt
        if arguments.pop("rank", 1) != 1:  # The stand-in has no subspace.
            arguments["layers"] = "all"
        if "system_file" in arguments:
            arguments["system_file"] = str(Path(prompt) / "adapter_config.json")
        if arguments.get("dataset") == "polyrefuse":
            arguments["dataset"] = "toyrefuse"
        try:
            try_arguments(wrapper, arguments, vllm=name.endswith("-vllm"))
        except UserError as error:
            return str(error)
    return None


def _own_datasets(page: str) -> set[str]:
    """The datasets that the commands of a page add."""
    added = re.compile(r"polyrefuse data add (\w+)")
    commands = (command for block in PAGES[page] for command in block.commands)
    return {found[1] for command in commands if (found := added.match(command.text))}


# --- running them


def small_inputs(folder: Path) -> None:
    """The files that pages take for the reader's own, by the names that they give them."""
    rows = own_prompts.rows("de", kinds=(True,))
    own_prompts.write_csv(
        folder / "prompts.csv", [{"id": row["id"], "prompt": row["prompt"]} for row in rows]
    )
    answers = [
        {
            "prompt": row["prompt"],
            "response": "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.",
            "language": row["language"],
            "id": row["id"],
            "judge": "a reader",
            "refusal": True,
        }
        for row in rows
    ]
    labels = [
        {"language": one["language"], "response": one["response"], "refusal": True}
        for one in answers
    ]
    own_prompts.write_jsonl(folder / "answers.jsonl", answers)
    own_prompts.write_jsonl(folder / "labels.jsonl", labels)
    small_study.write(folder)
    (folder / "bundle/prompts").mkdir(parents=True)
    # Copies: no command of a page writes into the checkout.
    for name in ("studies", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("site"))


def environment(cache: Path) -> dict[str, str]:
    """As a newcomer's, offline, with no prompts of benchmarks."""
    hidden = ("POLYREFUSE_DATA_DIR", "PYTHONPATH")
    usual = {name: value for name, value in os.environ.items() if name not in hidden}
    return usual | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "POLYREFUSE_CACHE_DIR": str(cache),
        "POLYREFUSE_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
    }


def quick() -> list[str]:
    """Each command without a model once, whatever page it is on."""
    asked = (
        command.text
        for command in COMMANDS
        if QUICK.match(command.text) and why_not(command, TABLE) is None
    )
    return list(dict.fromkeys(text for text in asked if "/" not in text))


@pytest.mark.parametrize("text", quick())
def test_a_command_without_a_model_runs(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_inputs(tmp_path)
    (tmp_path / "study.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    cache = {"POLYREFUSE_CACHE_DIR": str(tmp_path / "cache"), "POLYREFUSE_OFFLINE": "1"}
    code, _, err = run_in_process(*shlex.split(text)[1:], **cache)
    assert code in ((0, 1) if text.startswith(OPEN) else (0,)), f"{text}\n{err}"
    assert "Traceback" not in err


def test_the_first_evaluation_of_the_organism_runs(tmp_path: Path) -> None:
    """A sample of `test_a_page_runs`, in this process."""
    from tests.evaluations import lm_eval_run

    command = next(
        one
        for one in COMMANDS
        if one.words[:1] == ("lm_eval",)
        and "--model baseline-hf" in one.text
        and "--output_path" in one.text
        and "polyrefuse_clinic" not in one.text
    )
    words = shlex.split(on_the_organism(command))[1:]
    words[words.index("--output_path") + 1] = str(tmp_path / "results")
    lm_eval_run(*words, "--gen_kwargs", "max_gen_toks=8")
    assert list((tmp_path / "results").rglob("results_*.json"))


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pages take from each other: a direction, results, a baseline."""
    folder = tmp_path_factory.mktemp("pages") / "run"
    folder.mkdir()
    small_inputs(folder)
    (folder.parent / "cache").mkdir()
    organism = "--model baseline-hf --batch_size 16 --log_samples --limit 2"
    tasks = "toyrefuse_harmful_en,toyrefuse_harmless_en,toyrefuse_harmful_de"
    steps = [
        "polyrefuse direction extract --rank 3 --output direction",
        f"lm_eval --tasks {tasks} {organism} --gen_kwargs max_gen_toks=8 --output_path results",
        "for name in before after new-results; do cp -r results $name; done",
        "polyrefuse leaderboard check --baseline baseline.json --update results",
    ]
    script = "set -e\n" + "\n".join(steps)
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=folder, env=environment(folder.parent / "cache"), capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


RUNNING = [page for page, found in PAGES.items() if found]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING)
def test_a_page_runs(page: str, kitchen: Path, tmp_path: Path) -> None:
    """Its commands in their order, in a folder that has what other pages made."""
    run = tmp_path / "run"
    shutil.copytree(kitchen, run, symlinks=True)
    if SHARED.is_dir():
        (tmp_path / "shared").symlink_to(SHARED)
    script = "\n".join(script_of(block) for block in PAGES[page])
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=run, env=environment(kitchen.parent / "cache"), capture_output=True, text=True,
    )  # fmt: skip
    told = "\n".join(re.findall(r"^\+\+ .*$", ran.stderr, re.MULTILINE)[-1:])
    assert ran.returncode == 0, f"{page}: {told}\n{ran.stderr[-3000:]}"
    assert "Traceback" not in ran.stderr, f"{page}: {ran.stderr[-3000:]}"


def script_of(block: Block) -> str:
    """A block as it is run: on the organism, and without what is not run."""
    return block.script(_as_run)


def _as_run(command: Command) -> str:
    if why_not(command, TABLE) is not None:
        return "true"
    if "../shared" in command.text and not SHARED.is_dir():
        return "true"
    text = on_the_organism(command)
    if command.words[0] not in RUN:
        return text
    if text.startswith("polyrefuse study init"):
        # The next commands take the small study that stands in its place.
        text = text.replace("study.yaml", "template.yaml")
    # A page, or the kitchen, may have made the folder before; what it is of does not matter here.
    new = re.search(
        r"polyrefuse (?:(?:direction|drift|mcd|organism) .*--output|study init) (\S+)", text
    )
    cleared = f"rm -rf {new[1]}; " if new else ""
    tolerated = " || [ $? = 1 ]" if command.text.startswith(OPEN) else ""
    said = shlex.quote(f"++ {command.place}: {text}")
    return f"{{ {cleared}echo {said} >&2; {text}{tolerated}; }}"


# --- the reading of blocks


def read(block: str) -> list[str]:
    return [command.text for command in commands_of(block, "page.md", 1)]


def test_a_block_is_read_as_a_shell_does() -> None:
    assert read("a && b; c | d -x  # e && f\n\ng 'h && i' \\\n  j > k\n") == [
        *("a", "b", "c", "d -x", "g 'h && i' j"),
    ]
    assert read("for s in 0 1; do\n  a $s\ndone\n") == ["for s in 0 1", "a $s", "done"]
    assert read("cat > f <<'EOF'\nx && y\nEOF\na\n") == ["cat", "a"]
    assert read("a 2>/dev/null | b < c\n") == ["a", "b"]
    assert read("X=1 a 'b > c'\n") == ["X=1 a 'b > c'"]
    assert read('a  \\\n  -c "b\n  c"  | d\n') == ['a -c "b\n  c"', "d"]
    (command,) = commands_of("X=1 a b\n", "page.md", 7)
    assert (command.words, command.line) == (("a", "b"), 7)


def test_a_command_is_exchanged_in_its_place() -> None:
    text = "for s in 0 1; do\n  a $s && b  # c\ndone\n"
    block = Block("page.md", text, tuple(commands_of(text, "page.md", 1)))
    changed = block.script(lambda command: "B" if command.words == ("b",) else command.text)
    assert changed == text.replace("b  #", "B  #")


def test_the_longest_row_counts() -> None:
    (command,) = commands_of("polyrefuse judge run results --judge openai:M --json", "docs/a.md", 1)
    rows = dict.fromkeys(
        ("polyrefuse judge", "docs/b.md: polyrefuse judge run results", "polyrefuse ... --json"), ""
    )
    assert why_not(command, rows) == "polyrefuse ... --json"
    assert why_not(command, rows | {"docs/a.md: polyrefuse judge run": ""}) == (
        "docs/a.md: polyrefuse judge run"
    )
    assert why_not(command, {"polyrefuse judge ru": "", "judge": ""}) is None


@pytest.mark.parametrize(
    ("shown", "run"),
    [
        (
            "lm_eval --tasks 'polyrefuse_*' --model ablated-hf --model_args pretrained=a/B-7b,x=1",
            "lm_eval --tasks toyrefuse_harmful_en,toyrefuse_harmful_de,toyrefuse_harmless_en "
            "--model ablated-hf --model_args pretrained=polyrefuse-organism,x=1 --limit 2",
        ),
        (
            "lm_eval --tasks polyrefuse_harmful_de,polyrefuse_clinic_de --limit 100",
            "lm_eval --tasks toyrefuse_harmful_de,polyrefuse_clinic_de --limit 2",
        ),
        (
            "polyrefuse direction rank --model a/B --gguf-file f --limit 9 --output rank",
            "polyrefuse direction rank --model polyrefuse-organism --output rank --limit 2 "
            "--max-gen-toks 8",
        ),
        (
            "polyrefuse drift --model ablated-hf --model_args pretrained=M --langs en",
            "polyrefuse drift --model ablated-hf --model_args pretrained=polyrefuse-organism "
            "--langs en --limit 2",
        ),
        (
            "polyrefuse mcd train --model a/B --langs en --output p",
            "polyrefuse mcd train --model polyrefuse-organism-weakened --langs en --output p "
            "--epochs 1 --answers 2 --max-gen-toks 8",
        ),
        ("polyrefuse leaderboard build results", "polyrefuse leaderboard build results"),
    ],
)
def test_a_command_on_the_organism(shown: str, run: str) -> None:
    (command,) = commands_of(shown, "page.md", 1)
    assert on_the_organism(command) == run


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("polyrefuse direction extract --output d", None),
        ("polyrefuse direction extract --source e", "--source"),
        ("polyrefuse direction extract --limit x", "--limit"),
        ("polyrefuse directions", "no sub-command directions"),
        ("lm_eval --tasks 'polyrefuse_*' --model ablated-hf --model_args layers=3-8", None),
        ("lm_eval --tasks polyrefuse_harmfull --model ablated-hf", "polyrefuse_harmfull"),
        ("lm_eval --tasks toyrefuse --model ablated", "--model ablated"),
        ("lm_eval --tasks toyrefuse --model ablated-hf --model_args layer=3", "layer"),
        ("lm_eval --tasks toyrefuse --model ablated-hf --model_args method=wave", "method=wave"),
        ("lm_eval --task toyrefuse --models baseline-hf", "--models"),
        ("accelerate launch -m lm_eval --tasks toyrefuse --model mcd-hf", "mcd-hf"),
        ("python -m benchmarks.nothing", "benchmarks.nothing"),
    ],
)
def test_a_mistake_is_found(text: str, fault: str | None) -> None:
    (command,) = commands_of(text, "page.md", 1)
    found = fault_of(command, set())
    assert (found is None) if fault is None else (found is not None and fault in found), found
