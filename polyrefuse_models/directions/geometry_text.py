"""Describe the document of a geometry in lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyrefuse_models.directions.harmfulness_pictures import angle_text
from polyrefuse_models.directions.monitor import least_prompts
from polyrefuse_models.directions.monitor_pictures import describe

if TYPE_CHECKING:
    from collections.abc import Iterator


def summary(document: dict[str, Any]) -> Iterator[str]:
    """Yield lines about each language, the monitor, the angles, and the answers of a run.

    Args:
        document: the contents of `geometry.json`.
    """
    direction = document["direction"]
    if "control" in direction:
        yield (
            f"Note: the direction is a {direction['control']} control with seed "
            f"{direction['control_seed']}, and not a refusal direction."
        )
    for language, of in document["languages"].items():
        yield (
            f"{language}: AUC {_within(of['auc'], of['auc_low'], of['auc_high'])}, silhouette "
            f"{of['silhouette']:.3f}, harmful against English "
            f"{_rounded(of['harmful_against_english'])}"
        )
    yield f"Note: {document['meaning']}."
    yield from _monitor(document["monitor"])
    yield from _harmfulness(document["harmfulness"])
    if document["success"]:
        yield from _success(document["success"])


def _monitor(monitor: dict[str, Any]) -> Iterator[str]:
    yield f"monitor: {describe(monitor)}"
    if monitor["threshold"] is None:
        yield (
            f"Note: a false-alarm rate of {monitor['false_alarms']:g} needs "
            f"{least_prompts(monitor['false_alarms'])} harmless prompts to calibrate on. The "
            "monitor is calibrated on half of the prompts read; raise --limit or --false-alarms."
        )
        return
    for language, of in monitor["languages"].items():
        yield (
            f"{language}: false alarms {_rate(of['false_alarms'])}, detected "
            f"{_rate(of['detected'])}"
        )


def _harmfulness(found: dict[str, Any]) -> Iterator[str]:
    if found["languages"] is None:
        yield f"Note: {found['note']}."
        return
    angles = (
        f"{language} {angle_text(of['angle'], of['angle_low'], of['angle_high'])}"
        for language, of in found["languages"].items()
    )
    yield f"angle between harmfulness and refusal, in degrees: {', '.join(angles)}"
    if any(of["angle"] is None for of in found["languages"].values()):
        yield (
            "Note: a language without an angle has too few prompts for one: what separates its "
            "harmful from its harmless prompts at one of the two tokens may be chance; raise "
            "--limit."
        )


def _success(success: dict[str, Any]) -> Iterator[str]:
    yield (
        f"answers under condition {success['condition']}, by judge {success['judge']}, of "
        f"{', '.join(success['files'])}"
    )
    for attack in success["attacks"]:
        yield f"{attack['dataset']} is an attack around prompts of {attack['around']}"
    for language, of in success["languages"].items():
        for group, counts in of["counts"].items():
            if counts["n"]:
                labels = ", ".join(
                    f"{count} {name}" for name, count in counts.items() if count and name != "n"
                )
                yield f"{language}, {counts['n']} {group} prompts: {labels}"
        for name, auc in of["auc"].items():
            if auc["auc"] is not None:
                yield (
                    f"{language}: AUC of refused against answered, {name} "
                    f"{_within(auc['auc'], auc['low'], auc['high'])}, n = {auc['refused']} and "
                    f"{auc['answered']}"
                )
        for group, found in of["detected"].items():
            if rates := [f"{name} {_rate(rate)}" for name, rate in found.items() if rate]:
                yield f"{language}: {group} prompts that alarm the monitor: {'; '.join(rates)}"
    yield f"Note: {success['meaning']}."
    yield from (f"Note: {note}" for note in success["notes"])


def _within(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _rate(rate: dict[str, Any] | None) -> str:
    if rate is None:
        return "not known"
    return f"{_within(rate['rate'], rate['low'], rate['high'])}, n = {rate['n']}"


def _rounded(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.3f}"
