"""Dropout: a tangent is multiplied by what was drawn, which is never drawn again."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional as F

from gaslayers.penalties.call import Call, Twin
from gaslayers.penalties.table import twin_of
from gaslayers.penalties.times import Noise, times


@twin_of(F.dropout, torch.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
def _dropout(call: Call) -> Twin | None:
    x, share = call.argument(0, "input"), call.argument(1, "p", 0.5)
    call.run()
    if not call.argument(2, "training", True) or share == 0:
        return call.again(torch.clone, (x,), {})
    if len(call.forms) != 1 or share == 1:
        return None
    noise = Noise(call.forms[0], 1 / (1 - share))
    return call.of(functools.partial(times, numbers=noise), x)
