"""Views, copies, joins and moves of elements."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.engine.operation import Operation
from gaslayers.lean.engine.table import rule
from gaslayers.lean.rules.pure import add_pure, run_pure

add_pure(
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "permute",
    "transpose", "swapaxes", "movedim", "t", "squeeze", "unsqueeze", "expand", "expand_as",
    "broadcast_to", "repeat", "repeat_interleave", "tile", "contiguous", "clone", "narrow",
    "select", "chunk", "split", "unbind", "stack", "flip", "roll",
    "rot90", "pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "unfold", "fold", "to",
    "float", "double", "half", "bfloat16", "type_as", "interpolate", "upsample", "grid_sample",
    "affine_grid", "cosine_similarity", "normalize", "pairwise_distance",
)  # fmt: skip


@rule(torch.cat, torch.concat, torch.concatenate)
def _cat(op: Operation) -> Any:
    # The next layer of a dense block joins the same maps and one more.
    return run_pure(op, prefers_inputs=True)


rule(Tensor.__getitem__, torch.Tensor.type)(run_pure)
