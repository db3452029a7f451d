"""Write the reference pages that are generated from the code.

`python docs/generate.py` rewrites the pages in `docs/reference/`, and `--check` lists the stale
ones. `--count` counts the prompts of every task into `docs/task-sizes.json`, which needs the data.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SIZES = DOCS / "task-sizes.json"
WRITTEN = DOCS / "written-files.yaml"

Row = Sequence[object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, check them, or count prompts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="Write nothing; exit 1 if a page is stale."
    )
    parser.add_argument("--count", action="store_true", help="Count the prompts of every task.")
    asked = parser.parse_args(arguments)
    if asked.count:
        SIZES.write_text(json.dumps(count(sizes()), indent=1) + "\n", encoding="utf-8")
        return 0
    stale = {name: text for name, text in pages().items() if _there(DOCS / name) != text}
    if not asked.check:
        for name, text in stale.items():
            (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
            (DOCS / name).write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
        return 0
    for name in stale:
        print(f"docs/{name} is stale: run `python docs/generate.py`.", file=sys.stderr)
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """Return the text of every generated page, by its path in `docs/`."""
    makers: dict[str, Callable[[], Iterable[str]]] = {
        "reference/task-list.md": task_list,
        "reference/model-arguments.md": model_arguments,
        "reference/command-line.md": command_line,
        "reference/result-schema.md": result_schema,
    }
    note = (
        "<!-- Made by `python docs/generate.py`. Edit the files that it reads, not this page. -->"
    )
    return {name: "\n".join([note, "", *make()]).rstrip() + "\n" for name, make in makers.items()}


def _there(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def table(head: Row, rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a Markdown table, with an empty line after them."""
    yield "| " + " | ".join(map(str, head)) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        cells = (" ".join(str(cell).split()).replace("|", "\\|") for cell in row)
        yield "| " + " | ".join(cells) + " |"
    yield ""


def code(text: object) -> str:
    """Return a code span; "" for an empty text."""
    return f"`{text}`" if str(text) else ""


# --- tasks


def sizes() -> dict[str, dict[str, int]]:
    """Return the saved counts: the prompts of every task, by family folder and language."""
    return json.loads(_there(SIZES) or "{}")


def count(before: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Count the prompts of every task, by family folder and language.

    Args:
        before: the earlier counts, which are kept for data that is missing.
    """
    from polyrefuse_tasks.configs import FAMILIES
    from polyrefuse_tasks.data import MissingData
    from polyrefuse_tasks.harness import load_prompts

    found: dict[str, dict[str, int]] = {}
    for family in FAMILIES:
        found[family.folder] = dict(before.get(family.folder, {}))
        for language in family.languages:
            try:
                rows = load_prompts(**family.prompts(language))["test"]
            except MissingData as missing:
                print(missing, file=sys.stderr)
            else:
                found[family.folder][language] = len(rows)
    return found


def task_list() -> Iterator[str]:
    """Yield the lines of the page that lists every task and group."""
    import yaml

    from polyrefuse_tasks.configs import FAMILIES, SampledFamily, _Function, files
    from polyrefuse_tasks.data import dataset
    from polyrefuse_tasks.languages import NAMES
    from polyrefuse_tasks.metrics import METRICS

    counted = sizes()
    yield from (
        "# List of tasks",
        "",
        "This page lists every task and every group, with its dataset, its languages, its number",
        "of prompts (n) and the metrics that it prints. [Tasks](tasks.md) explains the protocol",
        "and the metrics.",
        "",
        "## Tasks",
        "",
        "`{lang}` stands for an ISO 639-1 code. If a language has a different n, it is shown in",
        "brackets. A task prints only the metrics that its judge measures: a refusal judge gives",
        "no `asr_harmful`.",
        "",
    )
    rows = []
    for family in FAMILIES:
        source = dataset(family.name)
        one = len(family.languages) == 1
        name = family.task(family.languages[0]) if one else family.task("{lang}")
        kind = "harmful" if family.harmful else "harmless"
        if isinstance(family, SampledFamily):
            kind += f", {family.answers()['repeats']} sampled answers each"
        rows.append(
            (
                code(name),
                f"{source.about} ({source.citation}; {source.licence})",
                kind,
                ", ".join(family.languages),
                _sizes(counted[family.folder], family.languages),
                ", ".join(map(code, family.rates)),
            )
        )
    yield from table(("task", "dataset", "prompts", "languages", "n", "metrics"), rows)
    yield from (
        "## Groups",
        "",
        "A group averages the metrics of its members, all with the same weight.",
        "",
    )
    loader = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!function", lambda _, node: _Function(node.value))
    groups = [
        yaml.load(text, loader) for path, text in files().items() if path.startswith("groups/")
    ]
    yield from table(
        ("group", "members", "metrics"),
        (
            (
                code(group["group"]),
                _members(group["task"]),
                ", ".join(code(one["metric"]) for one in group["aggregate_metric_list"]),
            )
            for group in sorted(groups, key=lambda group: group["group"])
        ),
    )
    yield from ("## Metrics", "")
    yield from table(
        ("metric", "share of", "prompts", "better", "judge of", "how it aggregates", "gate"),
        (
            (
                code(metric.name),
                metric.share_of,
                " and ".join(metric.prompts),
                _better(metric),
                metric.measured_by or "refusal or harm",
                "; ".join(one.value for one in metric.aggregates),
                metric.gate or "",
            )
            for metric in METRICS.values()
        ),
    )
    yield from ("## Languages", "")
    spoken = {language for family in FAMILIES for language in family.languages}
    yield from table(("code", "language"), ((code(one), NAMES[one]) for one in sorted(spoken)))


def _sizes(counted: Mapping[str, int], languages: Sequence[str]) -> str:
    most, _ = Counter(counted[language] for language in languages).most_common(1)[0]
    others = [f"{one} {counted[one]}" for one in languages if counted[one] != most]
    return f"{most}" + (f" ({', '.join(others)})" if others else "")


def _members(tasks: Sequence[str]) -> str:
    """Return the pattern of the tasks if they are one family, or else all tasks."""
    from polyrefuse_tasks.configs import FAMILIES

    for family in FAMILIES:
        if len(tasks) > 1 and family.tasks == list(tasks):
            return code(family.task("{lang}")) + f", {len(tasks)} languages"
    return ", ".join(map(code, tasks))


def _better(metric: Any) -> str:
    if metric.higher_is_better_on == metric.prompts:
        return "higher"
    if metric.higher_is_better_on:
        return f"higher on {' and '.join(metric.higher_is_better_on)}, else lower"
    return "lower"


# --- arguments of models

NEEDED = "needed"


def model_arguments() -> Iterator[str]:
    """Yield the lines of the page that lists the arguments of each model of this package."""
    from polyrefuse_models.registration import MODELS
    from polyrefuse_models.wrappers import asked

    yield from (
        "# Model arguments",
        "",
        "This page lists the arguments that each `--model` of this package takes in",
        "`--model_args`. Each model also takes all arguments of lm-eval's own `hf` or `vllm`.",
        "[Models](models.md) explains what the arguments do.",
        "",
    )
    what = {
        "baseline": asked.Nothing,
        "ablated": asked.AskedAblation,
        "refusal-added": asked.AskedAddition,
        "mcd": asked.AskedMcd,
    }
    values = _values()
    for name, place in MODELS.items():
        module = place.partition(":")[0]
        own = _of_engine(module) | _of_asked(what[name.rpartition("-")[0]])
        yield from (f"## `{name}`", "")
        yield from table(
            ("argument", "meaning", "values", "default"),
            (
                (code(argument), meaning, ", ".join(map(code, values.get(argument, ()))), default)
                for argument, (meaning, default) in own.items()
            ),
        )


def _values() -> dict[str, tuple[str, ...]]:
    """Return the possible values of the arguments that have a fixed set of values."""
    from polyrefuse_models import bundled
    from polyrefuse_models.directions.artifact import CONTROLS
    from polyrefuse_models.directions.select import RULES
    from polyrefuse_models.interventions.ablation import METHODS
    from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
    from polyrefuse_models.wrappers import asked
    from polyrefuse_models.wrappers.batching import BATCHING

    return {
        "pretrained": ("a name on the hub", "a folder", *bundled.SHIPPED),
        "chat": ("on", "off"),
        "system": ("template", "none"),
        "batching": BATCHING,
        "ablation": asked.ABLATIONS,
        "method": METHODS,
        "control": CONTROLS,
        "rule": tuple(RULES),
        "prompt": ("a folder", *SAFETY_PROMPTS),
    }


def _of_engine(module: str) -> dict[str, tuple[str, str]]:
    """Return the arguments of an engine's first class.

    They are read from the source, because vLLM may not be installed.
    """
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    engine = next(one for one in classes if one.name.startswith("Baseline"))
    (init,) = (
        node
        for node in engine.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    named = [*init.args.args[1:], *init.args.kwonlyargs]
    defaults = [*init.args.defaults, *init.args.kw_defaults]
    described = descriptions(ast.get_docstring(engine) or "")
    for name in (argument.arg for argument in named):
        if name not in described and module.endswith(".vllm"):
            described[name] = _of_engine("polyrefuse_models.wrappers.hf")[name][0]
    return {
        argument.arg: (
            _meaning(described, argument.arg, engine.name),
            _default(ast.literal_eval(default) if default else inspect.Parameter.empty),
        )
        for argument, default in zip(named, defaults, strict=True)
    }


class _Recording(dict[str, Any]):
    """Arguments that record which names were looked up, with their defaults."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.given, self.looked_for = set(given), dict[str, Any]()

    def pop(self, name: str, *default: Any) -> Any:
        # An argument without a default is one that is given here: the direction or the prompt.
        self.looked_for.setdefault(name, *(default or (inspect.Parameter.empty,)))
        return super().pop(name, *default)

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, default)


def _of_asked(cls: Any) -> dict[str, tuple[str, str]]:
    """Return the arguments of a model name, which its class takes out of recording arguments."""
    from dataclasses import fields

    from polyrefuse_models.wrappers.asked import AskedMcd, Nothing
    from polyrefuse_models.wrappers.direction_arguments import DirectionArguments
    from polyrefuse_models.wrappers.known_arguments import stand_ins

    if cls is Nothing:
        return {}
    described = descriptions(inspect.getdoc(AskedMcd) or "")
    taken: dict[str, Any] = {}
    with stand_ins() as (direction, prompt):
        given = {"prompt": prompt} if cls is AskedMcd else {"direction": direction}
        recording = _Recording(given)
        cls(recording, None)
        taken = recording.looked_for
    if cls is AskedMcd:
        taken["prompt"] = inspect.Parameter.empty
    else:
        described |= descriptions(inspect.getdoc(DirectionArguments) or "")
        taken = {one.name: one.default for one in fields(DirectionArguments)} | {
            name: default for name, default in taken.items() if name != "direction"
        }
    described |= descriptions(inspect.getdoc(cls) or "")
    return {
        name: (_meaning(described, name, cls.__name__), _default(default))
        for name, default in taken.items()
    }


def _default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return NEEDED
    return "" if value is None else code(value)


def _meaning(described: Mapping[str, str], name: str, where: str) -> str:
    """Return the description of an argument in a docstring.

    Raises:
        LookupError: the docstring does not describe the argument.
    """
    if name not in described:
        raise LookupError(
            f"The docstring of {where} does not say what the argument {name} means: give it a line "
            f"`{name}: ...` under Args or Attributes, or `- `{name}`: ...`."
        )
    return described[name]


def descriptions(docstring: str) -> dict[str, str]:
    """Return the description of each name in a docstring.

    A description is an entry of a section, an item of a list, or "`name`: ..." within a text. If
    several names precede one colon, each gets the description.
    """
    found: dict[str, str] = {}
    entry = re.compile(
        r"^ {4}(?P<names>\w+(?:, \w+)*)(?: \([^)]*\))?: +|`(?P<listed>\w+)`: +", re.MULTILINE
    )
    starts = list(entry.finditer(docstring))
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        text = docstring[start.end() : following.start() if following else len(docstring)]
        # An entry ends at an empty line, at a section without indentation or at a list item.
        text = re.split(r"\n\s*\n|\n(?=[A-Z]\w+:$|\s*- )", text, maxsplit=1, flags=re.MULTILINE)[0]
        text = re.sub(r"[;,]?( and)?( -)?$", "", " ".join(text.split()))
        text = text[0].upper() + text[1:]
        for name in (start["listed"] or start["names"]).split(", "):
            found[name] = text if text.endswith((".", ":")) else f"{text}."
    return found


# --- the command line


def command_line() -> Iterator[str]:
    """Yield the lines of the page that lists every sub-command, whatever the terminal's width."""
    import polyrefuse
    from polyrefuse_shared.command_line import every_command

    yield from (
        "# Command line",
        "",
        "This page lists every sub-command of `polyrefuse` with its arguments and options, and an",
        "example.",
        "",
    )
    for path, command in every_command(polyrefuse.COMMANDS, polyrefuse.ABOUT, polyrefuse.EXAMPLE):
        name = " ".join(("polyrefuse", *path))
        context = command.context_class(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        about = " ".join(inspect.cleandoc(command.help or "").split())
        yield from (f"## `{name}`", "", about, "", "```text", usage, "```", "")
        below = getattr(command, "commands", {})
        if below:
            rows = ((code(f"{name} {one}"), _about(it)) for one, it in below.items())
            yield from table(("command", "what it does"), rows)
        records = [
            _option(*record)
            for option in command.get_params(context)
            if "--help" not in option.opts
            for record in [option.get_help_record(context)]
            if record
        ]
        if records:
            yield from table(("option", "value", "meaning", "default"), records)
        example = (command.epilog or "").partition("Example: ")[2]
        if example:
            yield from ("```sh", example, "```", "")


def _about(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())


_BRACKETS = re.compile(
    r"(?P<text>.*?)\s*\[(?P<extra>(?:default: |required|[^\[\]]*(?:x[<>]=?|<=?x))[^\[\]]*)\]",
    re.DOTALL,
)
"""Matches a help text and the brackets that typer appends to it."""


_TYPES = {
    **dict.fromkeys(("str", "list[str]"), "text"),
    **dict.fromkeys(("int", "int range", "float", "float range"), "number"),
    "list[path]": "path",
}


def _option(names: str, said: str) -> Row:
    """Return the row of an option from its help: "--n <int>", "Prompts.  [default: 4; 1<=x]"."""
    text, extra = said, ""
    if match := _BRACKETS.fullmatch(said):
        text, extra = match["text"], match["extra"]
    default, limits = "", []
    for part in extra.split("; ") if extra else ():
        if part == "required":
            default = NEEDED
        elif part.startswith("default: "):
            default = code(part.removeprefix("default: "))
        else:
            limits.append(part.replace("2147483647", "2^31 - 1").replace("4294967295", "2^32 - 1"))
    value = ""
    if match := re.fullmatch(r"(?P<names>\S+(?:, -\S+| / -\S+)*) (?P<value>[^\s/,].*)", names):
        names, value = match["names"], match["value"].strip("<>")
    value = _TYPES.get(value.lower(), value)
    limit = f" ({', '.join(map(code, limits))})" if limits else ""
    return code(names), f"{value}{limit}", text, default


# --- written files


def written_files() -> dict[str, Any]:
    """Return the descriptions in `written-files.yaml` of the files that this package writes."""
    import yaml

    described: dict[str, Any] = yaml.safe_load(WRITTEN.read_text(encoding="utf-8"))
    return described


def result_schema() -> Iterator[str]:
    """Yield the lines of the page that describes the files that this package writes."""
    described = written_files()
    yield from (
        "# Written files",
        "",
        "This page lists the contents of each file that the commands write. Every rate is a share",
        "from 0 to 1 of all responses. It has its number of prompts `n` and the ends `low` and",
        "`high` of its 95% interval.",
        "",
    )
    yield from leaderboard()
    common = described["common"]
    for name, one in described["files"].items():
        yield from (f"## {one['title']}", "", one["about"].strip(), "")
        if "schema" in one:
            module, constant = one["schema"].split(":")
            version = getattr(importlib.import_module(module), constant)
            yield from (f"`{name}` has schema {version}.", "")
        for holder, tensors in one.get("tensors", {}).items():
            yield from (f"`{holder}` holds:", "")
            yield from table(("tensor", "meaning"), ((code(k), v) for k, v in tensors.items()))
        for part in one["parts"]:
            yield from (part["about"], "")
            yield from table(
                ("field", "meaning"),
                ((code(name), meaning or common[name]) for name, meaning in _fields(part).items()),
            )


def _fields(part: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the fields of a part, which the part itself or the docstring of a class describes."""
    if "docstring" not in part:
        fields: dict[str, str | None] = part["fields"]
        return fields
    module, name = part["docstring"].split(":")
    cls = getattr(importlib.import_module(module), name)
    described = descriptions(inspect.getdoc(cls) or "")
    return {one: _meaning(described, one, name) for one in inspect.signature(cls).parameters}


def leaderboard() -> Iterator[str]:
    """Yield the lines about `leaderboard.json`, from its JSON Schema."""
    import polyrefuse_leaderboard

    file = Path(polyrefuse_leaderboard.__file__).with_name("schema.json")
    schema = json.loads(file.read_text(encoding="utf-8"))
    parts = schema["$defs"]
    yield from (
        "## Leaderboard",
        "",
        "`polyrefuse leaderboard build` writes `leaderboard.json`, and the same records as CSV.",
        f"The document has schema {schema['properties']['schema']['const']}.",
        f"{schema['description']}",
        "",
    )
    headings = {
        "record": "A record of `records`:",
        "capability": "A record of kind `capability`. Fields that are not listed are as above:",
        "warning": "A warning of `warnings`:",
    }
    for name, heading in headings.items():
        yield from (heading, "")
        yield from table(
            ("field", "type", "meaning"),
            (
                (code(field), *described)
                for field, said in parts[name]["properties"].items()
                if (described := _field(said, parts)) is not None
            ),
        )


def _field(said: Mapping[str, Any], parts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the type and the meaning of a field; None if they are those of a record's field."""
    reference = str(said.get("$ref", ""))
    if "/properties/" in reference:
        return None
    whole = {**parts[reference.rpartition("/")[2]], **said} if reference else said
    if "const" in whole:
        kind = f"always `{json.dumps(whole['const'])}`"
    elif "enum" in whole:
        kind = ", ".join(map(code, whole["enum"]))
    else:
        kinds = whole.get("type", "any")
        kind = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    return kind, whole.get("description", "")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
