"""Live batch norm whose second derivative is computed some channels at a time.

PyTorch's formula for it makes some ten maps of the norm's size, which set the peak of a gradient
penalty. Channels do not know of each other, so that a band of them can be done after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gaslayers.lean.precision import has_autocast

_BAND_BYTES = 2**19
"""About so many bytes of a map are done at once: few beside the map, many beside a call."""


def can_be_in_bands(x: Tensor) -> bool:
    """Whether PyTorch's own kernel would compute this norm; others round otherwise."""
    is_full = x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cpu" and is_full and x.dim() >= 2 and not has_autocast(x.device)


def in_bands(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm` by the batch's statistics.

    Shape:
        - x: (N, C, ...).
        - weight, bias, running_mean, running_var: (C,).
        - Output: as ``x``.
    """
    if x.numel() == 0 or x.numel() == x.shape[1]:  # which the operator refuses
        return torch.nn.functional.batch_norm(
            x, running_mean, running_var, weight, bias, True, momentum, eps
        )
    made: Tensor = _Norm.apply(x, weight, bias, running_mean, running_var, momentum, eps)
    return made


def each_image_in_bands(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """`torch.nn.functional.instance_norm` without running statistics, as PyTorch computes it."""
    if x.dim() < 3 or x[0, 0].numel() <= 1:
        return torch.nn.functional.instance_norm(x, None, None, weight, bias, True, 0.0, eps)
    lines = [None if line is None else line.repeat(len(x)) for line in (weight, bias)]
    rows = x.contiguous().view(1, -1, *x.shape[2:])
    return in_bands(rows, *lines, None, None, 0.0, eps).view(x.shape)


class _Norm(torch.autograd.Function):
    """The operator. Its backward pass is a function with a backward pass of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        made, mean, inverse_std = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.eps = eps
        ctx.save_for_backward(x, weight, mean, inverse_std)
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        found = _NormBackward.apply(grad, x, weight, mean, inverse_std, ctx.eps, wanted)
        return (*found, None, None, None, None)


class _NormBackward(torch.autograd.Function):
    """The gradients of the map, the weight and the bias."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        x: Tensor,
        weight: Tensor | None,
        mean: Tensor,
        inverse_std: Tensor,
        eps: float,
        wanted: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.eps, ctx.wanted = eps, wanted
        ctx.save_for_backward(grad, x, weight, mean, inverse_std)
        found = _first(grad, x, weight, mean, inverse_std, eps, wanted)
        return tuple(g if is_wanted else None for g, is_wanted in zip(found, wanted, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, x, weight, mean, inverse_std = ctx.saved_tensors
        asked = ctx.needs_input_grad[:3]
        given = [g is not None for g in grads]
        nothing = (None,) * 7
        if not any(given) or not any(asked):
            return nothing
        if torch.is_grad_enabled():
            tensors = grad, x, weight
            found = _second(tensors, (mean, inverse_std), grads, asked, ctx.eps)
            return (*found, *nothing[3:])
        made: list[Tensor | None] = [
            torch.empty_like(t) if is_asked and t is not None else None
            for t, is_asked in zip((grad, x, weight), asked, strict=True)
        ]
        for band in _bands(x):
            tensors = _part(grad, band), _part(x, band), _part(weight, band)
            lines = _part(mean, band), _part(inverse_std, band)
            parts = [_part(g, band) for g in grads]
            with torch.enable_grad():
                leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
                found = _second(leaves, lines, parts, asked, ctx.eps)
            for whole, part in zip(made, found, strict=True):
                if whole is not None:
                    target = whole[band] if whole.dim() == 1 else whole[:, band]
                    target.zero_() if part is None else target.copy_(part)
        return (*made, *nothing[3:])


def _bands(x: Tensor) -> list[slice]:
    channels = x.shape[1]
    width = max(1, _BAND_BYTES * channels // max(1, x.numel() * x.element_size()))
    return [slice(start, start + width) for start in range(0, channels, width)]


def _part(tensor: Tensor | None, band: slice) -> Tensor | None:
    if tensor is None:
        return None
    return tensor[band] if tensor.dim() == 1 else tensor[:, band]


def _first(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse_std: Tensor,
    eps: float,
    wanted: Sequence[bool],
) -> Sequence[Tensor]:
    found: Sequence[Tensor] = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, None, None, mean, inverse_std, True, eps, list(wanted)
    )
    return found


def _second(
    tensors: Sequence[Tensor | None],
    statistics: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    asked: Sequence[bool],
    eps: float,
) -> list[Tensor | None]:
    """The gradients of the first gradients by what those were computed from."""
    grad, x, weight = tensors
    mean, inverse_std = statistics
    assert grad is not None and x is not None and mean is not None and inverse_std is not None
    with torch.enable_grad():
        given = [g is not None for g in grads]
        first = _first(grad, x, weight, mean, inverse_std, eps, given)
        outputs = [(f, g) for f, g in zip(first, grads, strict=True) if g is not None]
        wanted = [t for t, is_asked in zip(tensors, asked, strict=True) if is_asked]
        found = iter(
            torch.autograd.grad(
                [f for f, _ in outputs],
                [t for t in wanted if t is not None],
                [g for _, g in outputs],
                create_graph=torch.is_grad_enabled() and grad.grad_fn is not None,
                allow_unused=True,
            )
        )
    return [
        next(found) if is_asked and t is not None else None
        for t, is_asked in zip(tensors, asked, strict=True)
    ]
