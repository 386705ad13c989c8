"""Activations with two bounds: a tangent passes between them."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.native.bits import NOT_ZERO
from gaslayers.lean.rules.activation import bounds_of, is_inside
from gaslayers.penalties.call import Call, Twin
from gaslayers.penalties.table import twin_of
from gaslayers.penalties.times import Slopes, times


def _bounded(call: Call, *, with_bounds: bool) -> Twin | None:
    x, bounds = call.argument(0, "input"), bounds_of(call)
    if bounds is None or not bounds[0] <= bounds[1]:
        call.run()
        return None
    # Now, since it may be changed in place.
    bits = _bits_of(x.detach(), *bounds, with_bounds=with_bounds)
    call.run()
    passing = Slopes(bits, 0.0, x.shape)
    return call.of(functools.partial(times, numbers=passing), x, sends_zeros=not with_bounds)


def _bits_of(x: Tensor, low: Any, high: Any, *, with_bounds: bool) -> Bits:
    return Bits(is_inside(x, low, high, with_bounds=with_bounds), NOT_ZERO, x.dtype)


twin_of(
    torch.clamp, Tensor.clamp, torch.clamp_, Tensor.clamp_, torch.clip, Tensor.clip,
    torch.clip_, Tensor.clip_, torch.clamp_min, Tensor.clamp_min,
)(functools.partial(_bounded, with_bounds=True))  # fmt: skip
twin_of(F.hardtanh, F.relu6, torch._C._nn.hardtanh, torch._C._nn.hardtanh_)(
    functools.partial(_bounded, with_bounds=False)
)
