"""The table of checks; a check that breaks becomes a line like the others."""

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
"""The name of each check -> its function, in the order in which they are printed."""


def findings() -> Iterator[Finding]:
    """Yield what each check finds; a check that raises has found that something is broken."""
    for name, check in CHECKS.items():
        try:
            yield check()
        except Exception as error:
            said = f"the check failed ({packages.described(error)})"
            yield Finding(name, State.MISSING, said, reinstall())
