"""ReLU, LeakyReLU and PReLU: a tangent passes where the value is above zero."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.bits import Bits
from gaslayers.lean.engine.forms import Signs
from gaslayers.lean.native.bits import ABOVE_ZERO, NOT_AT_MOST_ZERO, Test
from gaslayers.penalties.call import Call, Twin
from gaslayers.penalties.table import twin_of
from gaslayers.penalties.times import Slopes, times


@twin_of(F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
def _relu(call: Call) -> Twin | None:
    return _rectified(call, NOT_AT_MOST_ZERO, 0.0)


@twin_of(F.leaky_relu, torch._C._nn.leaky_relu, torch._C._nn.leaky_relu_)
def _leaky_relu(call: Call) -> Twin | None:
    slope = call.argument(1, "negative_slope", 0.01)
    if slope < 0:
        call.run()
        return None
    return _rectified(call, ABOVE_ZERO, slope)


def _rectified(call: Call, test: Test, slope: float) -> Twin:
    x, made = call.argument(0, "input"), call.run()
    # The result is on the input's side of zero, and the only one there where it was in place.
    signs = [form for form in call.forms if isinstance(form, Signs) and form.bits is not None]
    bits = signs[0].bits if signs else None
    slopes = Slopes(bits or Bits(made, test, made.dtype), slope, made.shape)
    return call.of(functools.partial(times, numbers=slopes), x, sends_zeros=True)


@twin_of(F.prelu, torch.prelu)
def _prelu(call: Call) -> Twin | None:
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    if call.depends(weight):
        call.run()
        return None
    bits = Bits(x, ABOVE_ZERO, x.dtype)
    call.run()
    ones = Slopes(bits, 0.0, x.shape)
    return call.again(functools.partial(_with_slopes, ones), (x, weight), {}, sends_zeros=True)


def _with_slopes(ones: Slopes, tangent: Tensor, weight: Tensor) -> Tensor:
    above = times(tangent, ones)
    if weight.numel() > 1:
        weight = weight.view(-1, *(1,) * (tangent.dim() - 2))
    return above + (tangent - above) * weight
