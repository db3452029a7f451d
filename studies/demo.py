"""The work of `polyrefuse demo`: measure the bundled organisms in five conditions, in one process.

Each measurement does what `lm_eval --model MODEL --tasks toyrefuse --limit N` does, and writes the
same files. The leaderboard and the gate are made from these files alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from polyrefuse_models import bundled
from polyrefuse_shared.writing import whole_folder, write_whole
from polyrefuse_tasks.languages import POLYREFUSE

if TYPE_CHECKING:
    from polyrefuse_leaderboard.gate.comparison import Outcome
    from polyrefuse_leaderboard.reading.runs import Reading
    from polyrefuse_leaderboard.records import Record

    from polyrefuse_models.wrappers.measured import Measured

SCHEMA = 1
"""The version of the document that `demonstrate` returns."""

LIMIT = 40
"""The number of prompts of each task, which gives a clear picture in a minute or two."""

BATCH = 64
"""The number of prompts that are answered at a time."""

IN_WORDS = "mistral"
"""The name of the safety prompt in words, which is the text that the soft prompt's training began
with."""

PAGE = Path("site", "index.html")
"""The leaderboard's page, relative to the folder of the demo."""

HARMFUL, HARMLESS = "toyrefuse_harmful", "toyrefuse_harmless"


@dataclass(frozen=True)
class Measurement:
    """An organism in a condition.

    Attributes:
        pretrained: the name of the organism.
        condition: the name of the condition in results.
        model: lm-eval's name for the model.
        doing: the description in the progress bar.
        arguments: the arguments of the model besides `pretrained`.
    """

    pretrained: str
    condition: str
    model: str
    doing: str
    arguments: Mapping[str, str] = field(default_factory=dict)


def measurements() -> tuple[Measurement, ...]:
    """Return the six measurements, in the order in which they are made."""
    soft = str(bundled.soft_prompt())
    return (
        Measurement(bundled.ORGANISM, "baseline", "baseline-hf", "as it is"),
        Measurement(bundled.ORGANISM, "ablation", "ablated-hf", "direction ablated"),
        Measurement(bundled.ORGANISM, "addition", "refusal-added-hf", "direction added"),
        Measurement(bundled.WEAKENED, "baseline", "baseline-hf", "weakened, as it is"),
        Measurement(
            bundled.WEAKENED, "system-prompt", "mcd-hf", "prompt in words", {"prompt": IN_WORDS}
        ),
        Measurement(bundled.WEAKENED, "mcd", "mcd-hf", "soft prompt (MCD)", {"prompt": soft}),
    )


def demonstrate(
    folder: Path, *, languages: Sequence[str] = POLYREFUSE, limit: int = LIMIT
) -> dict[str, Any]:
    """Measure the organisms, and write results, leaderboard and gate into a new folder.

    One progress bar for the whole goes to standard error, if that is a terminal. What lm-eval and
    transformers would print there is written to `log.txt` in the folder.

    Args:
        folder: the folder to write, which must not exist.
        languages: ISO 639-1 codes among those of the organisms' 14 languages.
        limit: the number of prompts of each kind in each language.

    Returns:
        The contents of `demo.json`: the rates as means over languages, the gate's counts, and three
        sentences.

    Raises:
        CannotWrite: the folder exists, or cannot be written.
    """
    from tqdm import tqdm

    todo = measurements()
    tasks = [f"{kind}_{language}" for language in languages for kind in (HARMFUL, HARMLESS)]
    with (
        whole_folder(folder) as new,
        _others_to(new / "log.txt") as terminal,
        tqdm(
            total=len(todo) * len(tasks) * limit,
            desc="starting",
            unit=" answers",
            file=terminal,
            dynamic_ncols=True,
            disable=None,
        ) as bar,
    ):
        for one in todo:
            bar.set_description(one.doing)
            _measure(one, tasks, limit, new / "results", answered=bar.update)
        bar.set_description("leaderboard and gate")
        document = _report(new, languages, limit)
        bar.set_description("done")
        write_whole(new / "demo.json", _json(document))
    return document


@contextmanager
def _others_to(log: Path) -> Iterator[TextIO]:
    """Send standard error to a file, including that of processes that are started meanwhile.

    Yields:
        The stream that standard error was before.
    """
    kept = os.dup(2)
    try:
        with (
            open(kept, "w", encoding="utf-8", closefd=False) as before,
            open(log, "w", encoding="utf-8", buffering=1) as file,
            redirect_stderr(file),
        ):
            os.dup2(file.fileno(), 2)
            try:
                yield before
            finally:
                os.dup2(kept, 2)
    finally:
        os.close(kept)


def _measure(
    one: Measurement, tasks: Sequence[str], limit: int, results: Path, answered: Callable[[], Any]
) -> None:
    """Evaluate an organism on all tasks, and write lm-eval's files of results and samples.

    Args:
        answered: the function to call once for each answer.
    """
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    from polyrefuse_shared.task_folder import task_folder

    arguments = {"pretrained": one.pretrained, **one.arguments}
    tracker = EvaluationTracker(output_path=str(results))
    model = _load(one.model, dict(arguments), answered)
    # simple_evaluate would do this if it loaded the model itself, but then the answers could not be
    # counted.
    tracker.general_config_tracker.log_experiment_args(one.model, arguments, None, None, False)
    found = simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=list(tasks),
        batch_size=BATCH,
        limit=limit,
        task_manager=TaskManager(include_path=str(task_folder()), include_defaults=False),
    )
    assert found is not None, "only one process runs"
    found["config"]["model"] = one.model
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in tasks:
        tracker.save_results_samples(task_name=task, samples=samples[task])


def _load(name: str, arguments: dict[str, str], answered: Callable[[], Any]) -> Measured:
    """Load one of our models for lm-eval, and have it report each of its answers.

    The model is loaded by its class, so that it need not be registered with lm-eval.
    """
    from lm_eval.api.model import CacheHook

    from polyrefuse_models.registration import model_class

    class Listening(CacheHook):
        """A response cache that keeps nothing and reports each answer."""

        def add_partial(self, attr: Any, req: Any, res: Any) -> None:
            answered()

    wrapper: type[Measured] = model_class(name)
    model = wrapper.create_from_arg_obj(arguments, {"batch_size": BATCH})
    model.set_cache_hook(Listening(None))
    return model


def _report(folder: Path, languages: Sequence[str], limit: int) -> dict[str, Any]:
    """Write the leaderboard, the gate's baseline and its verdict, and return their summary."""
    from polyrefuse_leaderboard import model_rows, rates, warnings
    from polyrefuse_leaderboard.contents import Contents
    from polyrefuse_leaderboard.gate import reports
    from polyrefuse_leaderboard.reading.results import read
    from polyrefuse_leaderboard.records import MEAN
    from polyrefuse_leaderboard.site import write_site

    reading = read([folder / "results"])
    records = rates.records(reading)
    write_site(
        folder / PAGE.parent,
        Contents(
            title="Refusal safety of the two bundled models",
            records=records,
            rows=model_rows.rows(records, reading),
            warnings=warnings.collect(reading, records, ()),
            problems=reading.problems,
            notes=reading.notes,
        ),
    )
    outcome = _gate(folder, reading)
    write_whole(folder / "gate.json", _json(reports.document(outcome)))
    means = [record for record in records if record.language == MEAN]
    return {
        "schema": SCHEMA,
        "languages": list(languages),
        "limit": limit,
        "rates": [asdict(mean) for mean in means],
        "gate": {
            "passed": outcome.passed,
            "comparisons": len(outcome.comparisons),
            "failed": len(outcome.failed),
        },
        "seen": seen(means, outcome, languages, limit),
    }


def _gate(folder: Path, reading: Reading) -> Outcome:
    """Compare the ablated organism with a baseline of the untouched organism."""
    from polyrefuse_leaderboard.gate.baseline import make_baseline, write_baseline
    from polyrefuse_leaderboard.gate.comparison import check, choose_runs
    from polyrefuse_leaderboard.gate.thresholds import ALPHA, TOLERANCE

    before = make_baseline(choose_runs(reading, model=bundled.ORGANISM, condition="baseline"))
    write_baseline(before, folder / "baseline.json")
    return check(
        before,
        reading,
        model=bundled.ORGANISM,
        condition="ablation",
        alpha=ALPHA,
        tolerance=TOLERANCE,
    )


def seen(
    means: Sequence[Record], outcome: Outcome, languages: Sequence[str], limit: int
) -> list[str]:
    """Return three sentences on what ablation, addition and safety prompts did.

    Args:
        means: the records of means over languages.
        outcome: the outcome of the gate.
        languages: the languages of the prompts.
        limit: the number of prompts of each kind in each language.

    Returns:
        The sentences, with rates in percent, their 95% intervals and n.
    """

    def rate(model: str, condition: str, metric: str) -> str:
        (record,) = (
            each
            for each in means
            if (each.model, each.condition, each.metric) == (model, condition, metric)
        )
        low, high = 100 * record.low, 100 * record.high
        return f"{100 * record.value:.1f}% [{low:.1f}, {high:.1f}]"

    def asr(model: str, condition: str) -> str:
        return rate(model, condition, "asr")

    def refused(model: str, condition: str) -> str:
        return rate(model, condition, "false_refusal_rate")

    first, weak = bundled.ORGANISM, bundled.WEAKENED
    n = f"mean of {len(languages)} languages, n = {limit} prompts in each"
    return [
        f"Ablation: {first} complies with {asr(first, 'baseline')} of the harmful prompts as it "
        f"is, and with {asr(first, 'ablation')} without its refusal direction ({n}); the gate "
        f"finds {len(outcome.failed)} of {len(outcome.comparisons)} rates worse.",
        f"Addition: {first} refuses {refused(first, 'baseline')} of the harmless prompts as it is, "
        f"and {refused(first, 'addition')} with the direction added ({n}).",
        f"Repair: {weak} complies with {asr(weak, 'baseline')} of the harmful prompts as it is, "
        f"with {asr(weak, 'system-prompt')} under a safety prompt in words, and with "
        f"{asr(weak, 'mcd')} under a soft one (MCD), under which it refuses "
        f"{refused(weak, 'mcd')} of the harmless prompts ({n}).",
    ]


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
