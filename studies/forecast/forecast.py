"""The workload of a study and its time, for each job and in total."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from polyrefuse_studies.forecast import kept_rates
from polyrefuse_studies.forecast.estimate import NoEstimate, Seconds, chain, seconds, with_slots
from polyrefuse_studies.forecast.survey import Survey, survey
from polyrefuse_studies.jobs import Placed
from polyrefuse_studies.schema import Study

from polyrefuse_models.workload import Workload


@dataclass(frozen=True)
class Entry:
    """What is known of a job before it runs.

    Attributes:
        placed: the job.
        finished: whether the job is finished.
        asked: the workload of the job, or a clause that says why it is not known.
        takes: the time of the job, or a clause that says why there is no estimate.
    """

    placed: Placed
    finished: bool
    asked: Workload | str
    takes: Seconds | str

    def document(self) -> dict[str, Any]:
        """Return the entry for JSON, with null and a reason for what is not known."""
        asked = self.asked if isinstance(self.asked, Workload) else None
        takes = self.takes if isinstance(self.takes, Seconds) else None
        return {
            "prompts": asked and asked.prompts,
            "prompt_tokens": asked and asked.prompt_tokens,
            "prompt_tokens_at_most": asked and asked.prompt_tokens_at_most,
            "generated_tokens_at_most": asked and asked.generated_tokens_at_most,
            "judged_answers": asked and asked.judged,
            "parts": asked and [asdict(part) for part in asked.parts],
            "not_known": self.asked if isinstance(self.asked, str) else None,
            "seconds": takes and takes.about,
            "seconds_at_most": takes and takes.at_most,
            "no_estimate": self.takes if isinstance(self.takes, str) else None,
        }


@dataclass(frozen=True)
class Forecast:
    """The forecast of a study.

    Attributes:
        entries: one entry for each job, in the order of the jobs.
        probes: what the probe of each model measured, or why it measured nothing, by the study's
            name of the model.
    """

    entries: list[Entry]
    probes: dict[str, dict[str, Any] | str]

    def totals(self, slots: int) -> dict[str, Any]:
        """Return sums over those unfinished jobs about which enough is known.

        Args:
            slots: how many jobs run at a time.
        """
        left = [entry for entry in self.entries if not entry.finished]
        asked = [entry.asked for entry in left if isinstance(entry.asked, Workload)]
        takes = {
            entry.placed.job.name: entry.takes for entry in left if isinstance(entry.takes, Seconds)
        }
        jobs = [entry.placed.job for entry in self.entries]
        longest = chain(jobs, takes)
        about, most = (
            with_slots(jobs, {name: of(one) for name, one in takes.items()}, slots)
            for of in (lambda one: one.about, lambda one: one.at_most)
        )
        known = bool(takes)
        return {
            "jobs": len(left),
            "prompts": sum(one.prompts for one in asked),
            "prompt_tokens": sum(one.prompt_tokens for one in asked),
            "prompt_tokens_at_most": sum(one.prompt_tokens_at_most for one in asked),
            "generated_tokens_at_most": sum(one.generated_tokens_at_most for one in asked),
            "seconds": sum(one.about for one in takes.values()) if known else None,
            "seconds_at_most": sum(one.at_most for one in takes.values()) if known else None,
            "longest_chain": longest.about if known else None,
            "longest_chain_at_most": longest.at_most if known else None,
            "slots": slots,
            "with_slots": about if known else None,
            "with_slots_at_most": most if known else None,
            "not_known": [entry.placed.job.name for entry in left if isinstance(entry.asked, str)],
            "without_estimate": [
                entry.placed.job.name for entry in left if isinstance(entry.takes, str)
            ],
        }


def forecast(
    study: Study,
    jobs: Sequence[Placed],
    finished: Collection[str],
    probe: bool | None,
    told: Callable[[str], None],
) -> Forecast:
    """Count the workload of a study's jobs, and estimate their time.

    Args:
        study: the study.
        jobs: its jobs, each after those that it needs.
        finished: the names of the finished jobs.
        probe: whether to measure each model; None uses an earlier measurement if there is one.
        told: the function to call with a description of each step.
    """
    entries: dict[str, Entry] = {}
    probes: dict[str, dict[str, Any] | str] = {}
    for model in study.models:
        of_model = [one for one in jobs if one.job.model == model]
        idle = finished.__contains__
        if all(idle(one.job.name) for one in of_model):
            found = _surveyed(study, model, of_model, False, told)
        else:
            found = _surveyed(study, model, of_model, probe, told)
        probes[model] = found.rates
        for one in of_model:
            name = one.job.name
            takes = _takes(one, found, study.engine)
            entries[name] = Entry(one, idle(name), found.workloads[name], takes)
    return Forecast([entries[one.job.name] for one in jobs], probes)


def _surveyed(
    study: Study,
    model: str,
    jobs: Sequence[Placed],
    probe: bool | None,
    told: Callable[[str], None],
) -> Survey:
    """Return the survey of a model, with an earlier measurement if that is to be used."""
    own = study.models[model].arguments
    key = kept_rates.key(jobs, [study.engine, study.batch_size, own])
    kept = kept_rates.read(key) if probe is None else {}
    measure = probe is not False and not kept
    told(f"{model}: counting the prompts{' and probing the model' if measure else ''}")
    found = survey(jobs, study.engine, study.batch_size, list(own), measure)
    if kept:
        return Survey(found.workloads, kept["harness"], kept["rates"])
    if isinstance(found.rates, dict):
        kept_rates.keep(key, {"harness": found.harness, "rates": found.rates})
    return found


def _takes(one: Placed, found: Survey, engine: str) -> Seconds | str:
    workload = found.workloads[one.job.name]
    if isinstance(workload, str):
        return "its workload is not known"
    if isinstance(found.rates, str):
        return found.rates
    try:
        return seconds(one.job, workload, found.harness[one.job.name], found.rates, engine)
    except NoEstimate as reason:
        return str(reason)
