"""Measure the time, memory and page sizes of `polyrefuse leaderboard build` on many results.

    python benchmarks/leaderboard.py [--models 1000] [--conditions 5] [--all-rates] [--json]

The program writes results files in lm-eval's format to a temporary folder, one for each model and
condition, with 5 datasets in 14 languages and random rates. It then runs the command in a separate
process. A task has only its main rate, so there are as many cells as the table shows, 350,000. With
--all-rates a task has all five rates. If Chromium and playwright are installed, the program opens
the largest page and times its filters, from the event until the browser has painted again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from polyrefuse_tasks.languages import POLYREFUSE

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
CONDITIONS = ("baseline", "ablation", "mcd", "ablation+mcd", "system-prompt")
DATASETS = {"harmful": 572, "advbench": 150, "jailbreakbench": 100, "malicious_instruct": 100}
HARMLESS = {"harmless": 500}
BESIDE = ("refusal_rate", "degenerate_rate", "undecided_rate", "off_language_rate")


def results(model: str, condition: str, all_rates: bool, draw: random.Random) -> dict[str, Any]:
    """Return the contents of a results file."""
    document: dict[str, Any] = {"results": {}, "configs": {}, "n-samples": {}}
    for dataset, n in (DATASETS | HARMLESS).items():
        main = "asr" if dataset in DATASETS else "false_refusal_rate"
        for language in POLYREFUSE:
            task = f"polyrefuse_{dataset}_{language}"
            rates = (main, *BESIDE) if all_rates else (main,)
            document["results"][task] = {"alias": task, "sample_len": n} | {
                f"{rate},none": draw.randint(0, n) / n for rate in rates
            }
            document["configs"][task] = {
                "task": task,
                "dataset_kwargs": {"family": dataset, "lang": language},
                "output_type": "generate_until",
                "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 512},
                "num_fewshot": 0,
                "repeats": 1,
                "metadata": {"version": 1.0, "judge": "native"},
            }
            document["n-samples"][task] = {"original": n, "effective": n}
    return document | {
        "config": {
            "model": "baseline-hf",
            "model_args": {"pretrained": model},
            "model_name": model,
            "revision": "main",
            "condition": condition,
            "chat": "on",
            "limit": None,
            "gen_kwargs": {},
        },
        "date": 1767225600.5,
        "lm_eval_version": "0.4.13",
        "model_source": "baseline-hf",
        "model_name": model,
        "model_name_sanitized": model.replace("/", "__"),
        "system_instruction": None,
        "system_instruction_sha": None,
        "chat_template": None,
        "chat_template_sha": None,
    }


def write(folder: Path, models: int, conditions: int, all_rates: bool) -> None:
    draw = random.Random(0)
    for number in range(models):
        model = f"organisation-{number % 40:02}/model-{number:04}-instruct"
        place = folder / model.replace("/", "__")
        place.mkdir()
        for day, condition in enumerate(CONDITIONS[:conditions], 1):
            text = json.dumps(results(model, condition, all_rates, draw))
            (place / f"results_2026-01-{day:02}T00-00-00.000001.json").write_text(text)


def build(results: Path, site: Path) -> dict[str, Any]:
    """Run the command and measure its time, its memory and its pages.

    Returns:
        Among others the seconds of wall time and of processor time, and the peak memory in bytes.
    """
    command = [sys.executable, "-m", "polyrefuse", "leaderboard", "build", str(results)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--output", str(site), "--json"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"build failed: {done.stderr[-2000:]}")
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory = used.ru_maxrss * 1024
    summary = json.loads(done.stdout)
    pages = {file.name: file.stat().st_size for file in sorted(site.glob("*.html"))}
    return {
        "records": summary["records"],
        "problems": len(summary["problems"]),
        "seconds": seconds,
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": memory,
        "pages": len(pages),
        "largest_page_bytes": max(pages.values()),
        "largest_page": max(pages, key=lambda name: pages[name]),
    }


TIMED = """
([what, rounds]) => new Promise(async (resolve) => {
  const acts = {
    condition: (round) => document.querySelectorAll("#conditions input")[1].click(),
    model: (round) => {
      const box = document.getElementById("search");
      box.value = round % 2 ? "" : "model-00";
      box.dispatchEvent(new Event("input", {bubbles: true}));
    },
    language: (round) => document.querySelectorAll("#languages input")[3].click(),
    dataset: (round) => {
      const box = document.getElementById("dataset");
      box.selectedIndex = (box.selectedIndex + 1) % box.options.length;
      box.dispatchEvent(new Event("change", {bubbles: true}));
    },
    sort: (round) => document.querySelectorAll("#rates thead th")[4].click(),
  };
  const taken = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    acts[what](round);
    // The second frame begins when the first has been painted.
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    taken.push(performance.now() - start);
  }
  resolve(taken);
})
"""


def filters(page: Path, rounds: int) -> dict[str, dict[str, float]] | None:
    """Return the milliseconds that the page takes to respond, by action; None without a browser."""
    if CHROMIUM is None:
        return None
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.goto(page.as_uri())
        milliseconds = {}
        for what in ("condition", "model", "language", "dataset", "sort"):
            taken = opened.evaluate(TIMED, [what, rounds])
            milliseconds[what] = {"median": statistics.median(taken), "most": max(taken)}
        browser.close()
    return milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--conditions", type=int, default=len(CONDITIONS))
    parser.add_argument(
        "--all-rates",
        action="store_true",
        help="write all five rates of each task, as lm-eval does",
    )
    parser.add_argument("--rounds", type=int, default=10, help="how often each filter is timed")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder, site = Path(name, "results"), Path(name, "site")
        folder.mkdir()
        write(folder, asked.models, asked.conditions, asked.all_rates)
        measured = build(folder, site)
        measured["cells"] = asked.models * asked.conditions * len(POLYREFUSE) * 5
        measured["filters_ms"] = filters(site / measured["largest_page"], asked.rounds)
    if asked.json:
        print(json.dumps(measured))
        return
    print(
        f"{measured['cells']} cells, {measured['records']} records with their means: "
        f"{measured['seconds']:.1f} s, {measured['processor_seconds']:.1f} s of processor time, "
        f"{measured['peak_bytes'] / 1e6:.0f} MB at most\n"
        f"{measured['pages']} pages, the largest {measured['largest_page_bytes'] / 1e6:.2f} MB"
    )
    for what, taken in (measured["filters_ms"] or {}).items():
        print(f"{what:10}{taken['median']:6.0f} ms, at most {taken['most']:.0f} ms")
    if measured["filters_ms"] is None:
        print("The filters were not timed, because Chromium or playwright is not installed.")


if __name__ == "__main__":
    main()
