"""Check the devices that models run on, and their memory."""

from __future__ import annotations

import os
from pathlib import Path

from polyrefuse_models.doctor.finding import Finding, State, pip_install


def gpu() -> Finding:
    """Check which GPUs torch sees, with free and total memory."""
    import torch

    name = "GPU"
    if torch.cuda.is_available():
        seen = []
        for device in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(device)
            model = torch.cuda.get_device_name(device)
            seen.append(f"{model}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
        return Finding(name, State.OK, "; ".join(seen))
    if torch.backends.mps.is_available():
        return Finding(name, State.OK, "Apple GPU (MPS), which shares the computer's memory")
    if Path("/dev/nvidiactl").exists():
        build = torch.version.cuda or "no CUDA"
        return Finding(
            name,
            State.WARNING,
            f"the NVIDIA driver is there, but torch {torch.__version__} ({build}) sees no GPU",
            pip_install("--force-reinstall", "torch"),
        )
    return Finding(name, State.OK, "none: models run on the CPU")


def memory() -> Finding:
    """Check the computer's memory."""
    names = ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES")
    if not hasattr(os, "sysconf") or not set(names) <= set(os.sysconf_names):
        return Finding("memory", State.UNKNOWN, "this system does not say how much memory it has")
    total, free = (os.sysconf(one) * os.sysconf("SC_PAGE_SIZE") / 1e9 for one in names)
    return Finding("memory", State.OK, f"{total:.1f} GB, {free:.1f} GB of it unused")
