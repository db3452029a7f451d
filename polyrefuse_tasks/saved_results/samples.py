"""Read the lines of samples_*.jsonl, in which lm-eval logs every prompt and its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polyrefuse_shared.lm_eval_internals import DEFAULT_FILTER
from polyrefuse_shared.reading import regular_file
from polyrefuse_tasks.saved_results.documents import AGAIN, BadResults, parse, part

AT_MOST = 2**34
"""The largest size of a samples file, in bytes."""

LONGEST_LINE = 2**26
"""The largest size of a line, in bytes: a whole line is in memory at once."""


def lines(samples: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line with its place for messages; blank lines and other filters are skipped.

    Args:
        samples: the file.
        name: its name in messages.

    Raises:
        BadResults: the file cannot be read, a line is not JSON or has no row of a task, or a prompt
            occurs twice. The message names the line, counted from 1.
    """
    seen: set[str] = set()
    try:
        with regular_file(samples, AT_MOST) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                if len(line) > LONGEST_LINE:
                    most = f"{LONGEST_LINE / 2**20:g} MiB"
                    raise BadResults(f"{name}, line {number} has more than {most}; {AGAIN}")
                if not line.strip():
                    continue
                where = f"{name}, line {number}"
                sample = parse(line, where)
                if sample.get("filter", DEFAULT_FILTER) != DEFAULT_FILTER:
                    continue
                prompt = part(sample, "doc", where).get("id")
                if isinstance(prompt, str) and prompt in seen:
                    raise BadResults(f"{where}: prompt {prompt!r} occurs twice; {AGAIN}")
                seen.add(str(prompt))
                yield where, sample
    except OSError as error:
        raise BadResults(f"{name} cannot be read ({error.strerror}); {AGAIN}") from None


def answers_of(sample: Mapping[str, Any]) -> list[str] | None:
    """Return the answers to a prompt, one or several sampled ones; None if they are malformed."""
    answers = sample.get("filtered_resps")
    flat = answers[0] if isinstance(answers, list) and answers else None
    flat = [flat] if isinstance(flat, str) else flat
    if not isinstance(flat, list) or not all(isinstance(one, str) for one in flat):
        return None
    return flat
