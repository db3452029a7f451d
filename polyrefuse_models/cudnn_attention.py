"""Switch off cuDNN's attention where nearly every forward pass has a new shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Use torch's other attention kernels where nearly every forward pass has a new shape.

    From torch 2.11 on, CUDA prefers cuDNN's kernel. It makes a plan for each new shape, which takes
    36 ms on an H100, as long as the pass itself. The setting belongs to the process and therefore
    holds on every thread. It is restored at the end.
    """
    cuda = torch.backends.cuda
    on = cuda.cudnn_sdp_enabled()
    others = cuda.flash_sdp_enabled() or cuda.mem_efficient_sdp_enabled() or cuda.math_sdp_enabled()
    cuda.enable_cudnn_sdp(on and not others)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(on)
