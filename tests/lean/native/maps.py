"""Maps that tests of the norm's kernels read."""

from __future__ import annotations

import torch
from torch import Tensor

LAST = torch.channels_last


def slice_of_wider(x: Tensor) -> Tensor:
    """``x`` as some channels of a map that has others."""
    wide = torch.cat([x, torch.full_like(x, 7), x[:, :3]], dim=1)
    return wide.contiguous(memory_format=LAST)[:, : x.shape[1]]
