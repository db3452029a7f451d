"""Run the checks of `polyrefuse doctor`. A check that raises an error becomes a line too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from polyrefuse_models.doctor import browser, disk, hardware, hub, packages, plug_in, prompts
from polyrefuse_models.doctor.finding import Finding, State, reinstall
from polyrefuse_shared.versions import TRIED

CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": packages.python,
    **{name: partial(packages.package, name) for name in TRIED},
    "other packages": packages.requirements,
    "plug-in": plug_in.plug_in,
    "data": prompts.prompts,
    "prompt cache": disk.own_cache,
    "model cache": disk.hub_cache,
    "GPU": hardware.gpu,
    "memory": hardware.memory,
    "gated judges": hub.gated_judges,
    "Chromium for the tests": browser.chromium,
}
"""Name of a check -> its function, in the order of the printed lines."""


def findings() -> Iterator[Finding]:
    """Yield what each check finds. If a check raises, that counts as something broken."""
    for name, check in CHECKS.items():
        try:
            yield check()
        except Exception as error:
            said = f"the check failed ({packages.described(error)})"
            yield Finding(name, State.MISSING, said, reinstall())
