"""Batch norm by running statistics: a scaling of each channel. Live norms are smooth."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.penalties.call import Call, Twin
from gaslayers.penalties.table import twin_of


@twin_of(F.batch_norm)
def _batch_norm(call: Call) -> Twin | None:
    x, mean, variance = (
        call.argument(place, name)
        for place, name in enumerate(("input", "running_mean", "running_var"))
    )
    weight, eps = call.argument(3, "weight"), call.argument(7, "eps", 1e-5)
    lines = mean, variance, weight, call.argument(4, "bias")
    if call.argument(5, "training", False) or call.depends(*lines):
        call.run()
        return None
    # As they are now: another pass may move them.
    variance = variance.detach().clone()
    call.run()
    scaled = functools.partial(_scaled, variance, eps)
    if weight is None:
        return call.of(scaled, x)
    return call.again(scaled, (x, weight), {})


def _scaled(variance: Tensor, eps: float, tangent: Tensor, weight: Tensor | None = None) -> Tensor:
    mean = torch.zeros_like(variance)
    return F.batch_norm(tangent, mean, variance, weight, None, False, 0.0, eps)
