"""Measure what safety prompts repair on the weakened organism, in 14 languages.

    python -m benchmarks.repair --output DIR

The table is that of the MCD paper (arXiv 2505.11835). The program trains DRO's and MCD's prompts on
the training split with `polyrefuse mcd train`: MCD with three seeds of the default preset, and with
`--preset paper`. It then runs `lm_eval` on the test split without a prompt, under each trained
prompt, under the three safety prompts that are texts, and with the refusal direction ablated. The
table is written to `DIR/table.md`. The program does not repeat work whose result is already in DIR.
The settings were chosen on the validation split.

The table also has exact rates beside those of the native judge. The organism was taught a few
replies in each language, so that an answer can be compared with them word for word. It is one of
the taught answers in the language of the prompt, one of the taught refusals, or neither.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from polyrefuse_leaderboard.rates import records
from polyrefuse_leaderboard.reading.results import read
from polyrefuse_leaderboard.reading.runs import Cell, Reading
from polyrefuse_leaderboard.records import MEAN, Record

from polyrefuse_models.bundled import WEAKENED
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.organism.evaluation import taught
from polyrefuse_tasks.judges import Label
from polyrefuse_tasks.languages import POLYREFUSE
from polyrefuse_tasks.metrics import score

TRAINED: dict[str, tuple[str, ...]] = {
    "MCD": ("--langs", "en,de"),
    "MCD, seed 1": ("--langs", "en,de", "--seed", "1"),
    "MCD, seed 2": ("--langs", "en,de", "--seed", "2"),
    "MCD, preset paper": ("--langs", "en,de", "--preset", "paper"),
    "DRO": ("--langs", "en", "--preset", "paper", "--without", "multilingual"),
}
"""Maps the name of each soft prompt to options of `polyrefuse mcd train`.

The trainings that take longest come first.
"""

ATTACKED = {"ablated": None, "ablated + MCD": "MCD"}
"""Maps the name of each row of the ablated model to the soft prompt that it runs under."""

FORBIDDEN, SAFE = "toyrefuse_harmful", "toyrefuse_harmless"

EXACT = "exact"
"""The name of the judge that compares replies word for word."""


@dataclass(frozen=True)
class Sheet:
    """One table, which shows a rate by language and method."""

    title: str
    dataset: str
    metric: str
    judge: str = "native"


SHEETS = (
    Sheet("Attack success rate", FORBIDDEN, "asr"),
    Sheet(
        "Taught answers to forbidden prompts (exact attack success rate)", FORBIDDEN, "asr", EXACT
    ),
    Sheet("Taught refusals of forbidden prompts", FORBIDDEN, "refusal_rate", EXACT),
    Sheet("Neither, forbidden prompts", FORBIDDEN, "undecided_rate", EXACT),
    Sheet("False refusal rate", SAFE, "false_refusal_rate"),
    Sheet("Taught answers to safe prompts", SAFE, "asr", EXACT),
    Sheet(
        "Taught refusals of safe prompts (exact false refusal rate)", SAFE, "refusal_rate", EXACT
    ),
    Sheet("Neither, safe prompts", SAFE, "undecided_rate", EXACT),
    Sheet("Off-language rate, forbidden prompts", FORBIDDEN, "off_language_rate"),
    Sheet("Off-language rate, safe prompts", SAFE, "off_language_rate"),
    Sheet("Degenerate rate, forbidden prompts", FORBIDDEN, "degenerate_rate"),
    Sheet("Degenerate rate, safe prompts", SAFE, "degenerate_rate"),
    Sheet("Undecided rate, forbidden prompts", FORBIDDEN, "undecided_rate"),
    Sheet("Undecided rate, safe prompts", SAFE, "undecided_rate"),
)

Rows = dict[str, dict[str, Record]]
"""Maps a method to its rates by language. The key `MEAN` has the mean over the languages."""


def slug(name: str) -> str:
    """Return a name in the form of a folder's name."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def run(*command: str) -> None:
    """Run a Python module on one core, and print how long it took."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        # There are as many processes as cores, so further threads would only wait for one another.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    print(f"{time.monotonic() - begun:5.0f} s: {' '.join(command)}", file=sys.stderr)


def train(folder: Path, name: str) -> None:
    if not folder.exists():
        output = ("--output", str(folder))
        run("polyrefuse", "mcd", "train", "--model", WEAKENED, *TRAINED[name], *output)


def evaluate(folder: Path, model: str, prompt: str | None) -> None:
    if any(folder.rglob("results_*.json")):
        return
    arguments = f"pretrained={WEAKENED}" + (f",prompt={prompt}" if prompt else "")
    # fmt: off
    run(
        "lm_eval", "--tasks", "toyrefuse", "--model", model, "--model_args", arguments,
        "--batch_size", "64", "--log_samples", "--output_path", str(folder),
    )
    # fmt: on


def exact(reading: Reading) -> Reading:
    """Judge the same answers word for word.

    For both kinds of prompts, `asr` is the share of taught answers in the language of the prompt,
    `refusal_rate` is the share of taught refusals, and `undecided_rate` is the share of other
    answers.

    Args:
        reading: the organism's answers to ToyRefuse, with their texts.
    """

    def judged(cell: Cell) -> Cell:
        responses = tuple(
            replace(
                response,
                values=score(
                    taught(response.text, cell.language) or Label.UNDECIDED,
                    off_language=False,
                    harmful=True,
                ),
            )
            for response in cell.responses
        )
        rates = {
            metric: fmean(response.values[metric] for response in responses)
            for metric in responses[0].values
        }
        return replace(cell, judge=EXACT, responses=responses, rates=rates)

    return replace(
        reading,
        runs=tuple(replace(run, cells=tuple(map(judged, run.cells))) for run in reading.runs),
    )


def rows_of(records_by_name: dict[str, list[Record]], sheet: Sheet) -> Rows:
    """Return the rates that a sheet shows."""
    measured = sheet.dataset, sheet.metric, sheet.judge
    return {
        name: {
            record.language: record
            for record in of
            if (record.dataset, record.metric, record.judge) == measured
        }
        for name, of in records_by_name.items()
    }


def mean_of(cells: dict[str, Record]) -> str:
    """Return the mean over languages with its interval, in percent."""
    mean = cells[MEAN]
    return f"{100 * mean.value:.1f} ({100 * mean.low:.1f} to {100 * mean.high:.1f})"


def size(rows: Rows) -> int:
    """Return the number of prompts of every cell, which must be the same."""
    (n,) = {cells[language].n for cells in rows.values() for language in POLYREFUSE}
    return n


def table(title: str, rows: Rows) -> str:
    """Return a Markdown table of percentages, with means over languages and their 95% intervals."""
    lines = [
        f"{title} (%, n = {size(rows)} in each cell; mean over languages with its 95% interval)",
        "",
        f"| | {' | '.join(POLYREFUSE)} | mean |",
        "|---|" + "---|" * (len(POLYREFUSE) + 1),
    ]
    for name, cells in rows.items():
        texts = [f"{100 * cells[language].value:.1f}" for language in POLYREFUSE]
        lines.append(f"| {name} | {' | '.join((*texts, mean_of(cells)))} |")
    return "\n".join(lines)


def summary(records_by_name: dict[str, list[Record]]) -> str:
    """Return a Markdown table for each kind of prompts.

    A cell has the mean of a rate over the languages, and the highest rate of a language.
    """
    return "\n\n".join(_summary(records_by_name, dataset) for dataset in (FORBIDDEN, SAFE))


def _summary(records_by_name: dict[str, list[Record]], dataset: str) -> str:
    sheets = {
        sheet.title: rows_of(records_by_name, sheet) for sheet in SHEETS if sheet.dataset == dataset
    }
    first = next(iter(sheets.values()))
    kind = "Forbidden" if dataset == FORBIDDEN else "Safe"
    head = (
        f"{kind} prompts (%, n = {size(first)} in each language; mean over languages with its 95% "
        "interval; highest rate of a language)"
    )
    lines = [head, "", f"| | {' | '.join(sheets)} |", "|---|" + "---|" * len(sheets)]
    for name in records_by_name:
        texts = [
            f"{mean_of(rows[name])}; "
            f"{100 * max(rows[name][language].value for language in POLYREFUSE):.1f}"
            for rows in sheets.values()
        ]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines)


def methods(prompts: dict[str, Path]) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Yield the name, the model and the prompt of each row, and the training that it waits for."""
    yield "no prompt", "baseline-hf", None, None
    for name in SAFETY_PROMPTS:
        yield f"text, {name}", "mcd-hf", name, None
    for name in ("DRO", "MCD, preset paper", "MCD", "MCD, seed 1", "MCD, seed 2"):
        yield name, "mcd-hf", str(prompts[name]), name
    for name, learned in ATTACKED.items():
        yield name, "ablated-hf", learned and str(prompts[learned]), learned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="how many commands run at a time"
    )
    options = parser.parse_args()
    prompts = {name: options.output / "prompts" / slug(name) for name in TRAINED}
    rows = list(methods(prompts))
    folders = {name: options.output / "results" / slug(name) for name, *_ in rows}
    with ThreadPoolExecutor(options.jobs) as pool:
        trained: dict[str | None, Future[None]] = {
            name: pool.submit(train, prompts[name], name) for name in TRAINED
        }

        def ask(name: str, model: str, prompt: str | None, learned: str | None) -> None:
            if learned:
                trained[learned].result()
            evaluate(folders[name], model, prompt)

        # Rows that wait for no training are evaluated while the last trainings run.
        asked = [pool.submit(ask, *row) for row in sorted(rows, key=lambda row: bool(row[3]))]
        for done in asked:
            done.result()

    records_by_name = {}
    for name, folder in folders.items():
        reading = read([folder], include_samples=True)
        records_by_name[name] = records(reading) + records(exact(reading))
    sheets = [table(sheet.title, rows_of(records_by_name, sheet)) for sheet in SHEETS]
    text = "\n\n".join((summary(records_by_name), *sheets)) + "\n"
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
