"""What safety prompts repair on the weakened organism: the table of 2505.11835, for 14 languages.

    python -m benchmarks.repair --output DIR

Trains DRO's and MCD's prompts on the training split with `polyrefuse mcd train` (MCD as the paper
has it, and by default with three seeds), asks the test split under each, under none, under the
three prompts in words, and with the refusal direction ablated, by `lm_eval`, and writes
`DIR/table.md`. What is in DIR already is not made again. Settings were chosen on the validation
split.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from leaderboard.rates import records
from leaderboard.reading.results import read
from leaderboard.records import MEAN, Record
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.organism import WEAKENED
from polyrefuse_tasks.languages import POLYREFUSE

TRAINED: dict[str, tuple[str, ...]] = {
    "DRO": ("--langs", "en", "--preset", "paper", "--without", "multilingual"),
    "MCD, the paper's settings": ("--langs", "en,de", "--preset", "paper"),
    "MCD": ("--langs", "en,de"),
    "MCD, seed 1": ("--langs", "en,de", "--seed", "1"),
    "MCD, seed 2": ("--langs", "en,de", "--seed", "2"),
}
"""What each learned prompt is called -> options of `polyrefuse mcd train`."""

ATTACKED = {"ablated": None, "ablated + MCD": "MCD"}
"""The same of the ablated model -> the learned prompt that it has."""


@dataclass(frozen=True)
class Sheet:
    """One table: a rate by language and method."""

    title: str
    dataset: str
    metric: str


SHEETS = (
    Sheet("Attack success", "toyrefuse_harmful", "asr"),
    Sheet("False refusal", "toyrefuse_harmless", "false_refusal_rate"),
    Sheet("In another language, forbidden prompts", "toyrefuse_harmful", "off_language_rate"),
    Sheet("In another language, safe prompts", "toyrefuse_harmless", "off_language_rate"),
    Sheet("Degenerate, forbidden prompts", "toyrefuse_harmful", "degenerate_rate"),
    Sheet("Degenerate, safe prompts", "toyrefuse_harmless", "degenerate_rate"),
)


def slug(name: str) -> str:
    """A name as a folder's."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


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


def table(title: str, rows: dict[str, dict[str, Record]]) -> str:
    """Markdown, percentages; the mean over languages with its 95% interval."""
    (n,) = {rows[name][language].n for name in rows for language in POLYREFUSE}
    lines = [
        f"{title} (%, n = {n} a cell; mean over languages with its 95% interval)",
        "",
        f"| | {' | '.join(POLYREFUSE)} | mean |",
        "|---|" + "---|" * (len(POLYREFUSE) + 1),
    ]
    for name, cells in rows.items():
        shown = [f"{100 * cells[language].value:.1f}" for language in POLYREFUSE]
        mean = cells[MEAN]
        shown.append(f"{100 * mean.value:.1f} ({100 * mean.low:.1f} to {100 * mean.high:.1f})")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="commands at a time")
    options = parser.parse_args()
    prompts = {name: options.output / "prompts" / slug(name) for name in TRAINED}
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda name: train(prompts[name], name), TRAINED))

    methods: dict[str, tuple[str, str | None]] = {"no prompt": ("baseline-hf", None)}
    methods |= {f"text, {name}": ("mcd-hf", name) for name in SAFETY_PROMPTS}
    methods |= {name: ("mcd-hf", str(folder)) for name, folder in prompts.items()}
    methods |= {
        name: ("ablated-hf", None if learned is None else str(prompts[learned]))
        for name, learned in ATTACKED.items()
    }
    folders = {name: options.output / "results" / slug(name) for name in methods}
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda name: evaluate(folders[name], *methods[name]), methods))

    found = {name: records(read([folder])) for name, folder in folders.items()}
    sheets = [
        table(
            sheet.title,
            {
                name: {
                    record.language: record
                    for record in of
                    if (record.dataset, record.metric) == (sheet.dataset, sheet.metric)
                }
                for name, of in found.items()
            },
        )
        for sheet in SHEETS
    ]
    text = "\n\n".join(sheets) + "\n"
    (options.output / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
