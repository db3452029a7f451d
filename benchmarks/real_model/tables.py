"""Write the tables of docs/explanation/real-model.md: rates, side effects and stability."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.real_model.runs import CONDITIONS, LANGUAGES
from polyrefuse_shared.intervals import wilson
from polyrefuse_shared.writing import write_whole
from tests.real.checkpoint import NAME

RATES = {
    "harmful": ("asr", "degenerate_rate", "undecided_rate", "off_language_rate"),
    "harmless": ("false_refusal_rate", "degenerate_rate", "off_language_rate"),
}
TITLES = {
    "asr": "ASR",
    "false_refusal_rate": "FRR",
    "degenerate_rate": "Degenerate rate",
    "undecided_rate": "Undecided rate",
    "off_language_rate": "Off-language rate",
}
SINGLE = [name for name in CONDITIONS if not name.startswith("random-")]
CONTROLS = {
    kind: [name for name in CONDITIONS if name.startswith(f"{kind}-")]
    for kind in ("random-ablation", "random-addition")
}


def record(folder: Path, output: Path) -> None:
    """Copy what the tables are made from: results without samples and without local paths."""
    for name in CONDITIONS:
        path, results = _results(folder, name)
        results.pop("pretty_env_info", None)
        model = results["config"]["model_name"]
        text = json.dumps(results, separators=(",", ":")).replace(model, NAME)
        text = text.replace(str(folder), ".")
        text = re.sub(r'"/[^"]*/(task_configs/[^"]*)"', r'"\1"', text)
        (output / "results" / name).mkdir(parents=True, exist_ok=True)
        write_whole(output / "results" / name / path.name, text + "\n")
    for path in sorted(folder.glob("*.json")):
        write_whole(output / path.name, path.read_text(encoding="utf-8"))


def sections(folder: Path) -> dict[str, str]:
    """Return the tables of each section of the page, in Markdown.

    Sections that have not been measured are left out.
    """
    made = {}
    if (folder / "results").is_dir():
        made["rates"] = _rates({name: _results(folder, name)[1] for name in CONDITIONS})
    for name, table in (("effects", _effects), ("stability", _stability)):
        path = folder / f"{name}.json"
        if path.exists():
            made[name] = table(json.loads(path.read_text(encoding="utf-8")))
    return {name: "\n".join(lines) for name, lines in made.items()}


def write_into(page: Path, folder: Path) -> None:
    """Write each section into the page, between `<!-- NAME -->` and the next `<!-- end -->`."""
    text = page.read_text(encoding="utf-8")
    for name, tables in sections(folder).items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = f"{before}{begin}\n{tables}\n\n{end}{after}"
    write_whole(page, text)


def _results(folder: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """Return the path of a run's results file, and its contents."""
    (path,) = (folder / "results" / name).rglob("results_*.json")
    return path, json.loads(path.read_text(encoding="utf-8"))


def _rates(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    for kind, metrics in RATES.items():
        for metric in metrics:
            yield f"{TITLES[metric]}, {kind} prompts:"
            yield ""
            yield from _head("condition", *LANGUAGES)
            for name in SINGLE:
                counted = [_counted(results[name], kind, metric, code) for code in LANGUAGES]
                yield _line(name, *(_rate(*one) for one in counted))
            for control, names in CONTROLS.items():
                spreads = []
                for code in LANGUAGES:
                    counted = [_counted(results[name], kind, metric, code) for name in names]
                    rates = [100 * hits / n for hits, n in counted]
                    spreads.append(f"{min(rates):.0f} to {max(rates):.0f}")
                yield _line(f"{control}, lowest to highest of {len(names)}", *spreads)
            yield ""


def _counted(results: dict[str, Any], kind: str, metric: str, language: str) -> tuple[int, int]:
    task = f"polyrefuse_{kind}_{language}"
    n = results["n-samples"][task]["effective"]
    return round(results["results"][task][f"{metric},none"] * n), n


def _rate(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{100 * hits / n:.0f} ({100 * low:.1f} to {100 * high:.1f})"


def _effects(report: dict[str, dict[str, float]]) -> Iterator[str]:
    yield from _head("condition", "KL, nats", "perplexity")
    for name in SINGLE:
        yield _line(name, *_ranges(report[name]))
    for control, names in CONTROLS.items():
        spreads = [[report[name][key] for name in names] for key in ("kl", "perplexity")]
        cells = [f"{min(values):.3g} to {max(values):.3g}" for values in spreads]
        yield _line(f"{control}, lowest to highest of {len(names)}", *cells)


def _ranges(effect: dict[str, float]) -> list[str]:
    return [
        f"{effect[key]:.3g} ({effect[f'{key}_low']:.3g} to {effect[f'{key}_high']:.3g})"
        for key in ("kl", "perplexity")
    ]


def _stability(report: dict[str, Any]) -> Iterator[str]:
    yield from _head(
        *("prompts", "tokens", "kept of harmful", "position", "layer", "refusal score"),
        *("KL", "steering", "halves", "bootstrap", "cosine to seed 0"),
    )
    for index, name in enumerate(report["names"]):
        one = report["choices"][name]
        stability = [_cosine(one["stability"][which]) for which in ("halves", "bootstrap")]
        yield _line(
            name,
            str(one["refusal_tokens"]),
            f"{one['prompts']['harmful_train']}, {one['prompts']['harmful_val']}",
            str(one["position"]),
            str(one["layer"]),
            f"{one['refusal_score']:.2f} ({one['untouched']['harmful_refusal_score']:.2f})",
            f"{one['kl_div_score']:.3f}",
            f"{one['steering_score']:.2f}",
            *stability,
            f"{report['cosine'][0][index]:.3f}",
        )


def _cosine(stability: dict[str, float]) -> str:
    return f"{stability['mean']:.3f} ({stability['low']:.2f} to {stability['high']:.2f})"


def _head(*names: str) -> Sequence[str]:
    return _line(*names), _line(*("---" for _ in names))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
