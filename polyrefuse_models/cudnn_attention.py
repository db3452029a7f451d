"""cuDNN's attention switched off, where nearly each forward pass has a shape of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_cudnn_attention() -> Iterator[None]:
    """Attention by torch's other kernels, for passes of which nearly each has a shape of its own.

    From torch 2.11 on cuDNN's is preferred on CUDA, and it makes a plan for each new shape: 36 ms
    on an H100, as long as the pass itself. The setting is the process's, so that it holds on every
    thread, and is put back.
    """
    cuda = torch.backends.cuda
    on = cuda.cudnn_sdp_enabled()
    others = cuda.flash_sdp_enabled() or cuda.mem_efficient_sdp_enabled() or cuda.math_sdp_enabled()
    cuda.enable_cudnn_sdp(on and not others)
    try:
        yield
    finally:
        cuda.enable_cudnn_sdp(on)
