"""The text of a forecast."""

from __future__ import annotations

from collections.abc import Iterator

from polyrefuse_studies.forecast.estimate import Seconds
from polyrefuse_studies.forecast.forecast import Entry, Forecast

from polyrefuse_models.workload import Workload
from polyrefuse_shared.printing import counted

CLOSE = 1.1
"""Two times that differ by less than this factor are printed as one."""


def lines(found: Forecast, slots: int) -> Iterator[str]:
    """Return the lines on the jobs, on their sums, and on what the estimate rests on.

    Args:
        found: the forecast.
        slots: how many jobs run at a time.
    """
    for entry in found.entries:
        yield from _of_entry(entry)
    finished = sum(entry.finished for entry in found.entries)
    yield f"{counted(len(found.entries), 'job')}, finished: {finished}"
    yield from _of_total(found, slots)
    yield from _of_probes(found)


def _of_entry(entry: Entry) -> Iterator[str]:
    job = entry.placed.job
    waits = f", after {', '.join(job.needs)}" if job.needs else ""
    tasks = f", {counted(len(job.tasks), 'task')}" if job.tasks else ""
    state = " [finished]" if entry.finished else ""
    yield f"{job.name}{state}{tasks}{waits}"
    if isinstance(entry.asked, str):
        yield f"    its workload is not known: {entry.asked}"
    elif isinstance(entry.takes, str):
        yield f"    {_asked(entry.asked)}; no estimate: {entry.takes}"
    else:
        yield f"    {_asked(entry.asked)}; {_time(entry.takes)}"
    yield f"    {entry.placed.typed}"


def _asked(workload: Workload) -> str:
    if not workload.parts:
        return f"{workload.judged:,} answers to judge"
    said = f"{counted(workload.prompts, 'prompt')}, {workload.prompt_tokens:,} tokens to read"
    if written := workload.generated_tokens_at_most:
        said += f", at most {written:,} to write"
    return said


def _of_total(found: Forecast, slots: int) -> Iterator[str]:
    total = found.totals(slots)
    if not total["jobs"]:
        return
    yield (
        f"to do: {total['prompts']:,} prompts, {total['prompt_tokens']:,} tokens to read, at most "
        f"{total['generated_tokens_at_most']:,} to write"
    )
    if total["seconds"] is not None:
        every = Seconds(total["seconds"], total["seconds_at_most"])
        together = Seconds(total["with_slots"], total["with_slots_at_most"])
        longest = Seconds(total["longest_chain"], total["longest_chain_at_most"])
        yield f"one job after another: {_time(every)}"
        if slots > 1:
            yield f"{slots} jobs at a time, if each is as fast as alone: {_time(together)}"
        yield f"the longest chain of jobs, on any number of devices: {_time(longest)}"
    for what, names in (
        ("the numbers", total["not_known"]),
        ("the times", total["without_estimate"]),
    ):
        if names:
            yield f"not known, and left out of {what}: {', '.join(names)}"


def _of_probes(found: Forecast) -> Iterator[str]:
    for model, rates in found.probes.items():
        if isinstance(rates, str):
            yield f"{model}: no estimate: {rates}"
            continue
        longest = rates["longest"]
        ended = (
            "some answers had not ended when the probe ended"
            if longest is None
            else f"the longest answer of the probe had {longest} tokens"
        )
        speed = f"{rates['read']:,.0f} tokens read and {rates['generated']:,.0f} written a second"
        yield (
            f"{model}: measured on {rates['device']} of {rates['machine']}, {rates['rows']} "
            f"prompts at a time: {speed}, {rates['imports'] + rates['loading']:.0f} s to start; "
            f"{ended}"
        )
    if any(isinstance(rates, dict) for rates in found.probes.values()):
        yield (
            "Both times are for the device of the probe. The first assumes answers as short as "
            "those of the probe, the second answers of the greatest length."
        )


def _time(takes: Seconds) -> str:
    if takes.at_most < takes.about * CLOSE:
        return f"about {duration(takes.at_most)}"
    return f"about {duration(takes.about)}, at most {duration(takes.at_most)}"


def duration(seconds: float) -> str:
    """Describe a time in words, to about two digits."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.3g} h"
