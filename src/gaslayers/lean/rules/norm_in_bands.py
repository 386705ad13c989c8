"""Live batch norm whose second derivative is computed some channels at a time.

PyTorch's formula for it makes some ten maps of the norm's size, which set the peak of a gradient
penalty. Channels do not know of each other, so that a band of them can be done after the other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor

from gaslayers.lean.engine.operation import Pass, is_known, is_small
from gaslayers.lean.precision import has_autocast
from gaslayers.lean.rerun import stand_ins

_BAND_BYTES = 2**19
"""About so many bytes of a map are done at once: few beside the map, many beside a call."""


def can_be_in_bands(x: Tensor, eps: float, *lines: Tensor | None) -> bool:
    """Whether PyTorch's own kernel would compute this norm; others round otherwise.

    Args:
        x: What is to be normalised.
        eps: Is added to the variance.
        lines: Numbers by channel. The kernel trusts that there are as many as channels, which
            `torch.nn.functional` checks.
    """
    is_full = x.dtype in (torch.float32, torch.float64)
    is_usual = x.device.type == "cpu" and is_full and x.dim() >= 2 and x.numel() > 0 and eps > 0
    fit = is_usual and all(line is None or line.numel() == x.shape[1] for line in lines)
    return fit and not has_autocast(x.device)


def in_bands(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    pass_: Pass,
) -> Tensor:
    """`torch.nn.functional.batch_norm` by the batch's statistics.

    The gradient of the map is written down in the book of the pass, so that it need not be kept
    for second derivatives of what comes before the norm.

    Shape:
        - x: (N, C, ...).
        - weight, bias, running_mean, running_var: (C,).
        - Output: as ``x``.
    """
    if x.numel() == x.shape[1]:  # which the operator refuses
        return torch.nn.functional.batch_norm(
            x, running_mean, running_var, weight, bias, True, momentum, eps
        )
    options = _Options(momentum, eps, pass_, by_image=False)
    made: Tensor = _Norm.apply(x, weight, bias, running_mean, running_var, options)
    return made


def each_image_in_bands(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, pass_: Pass
) -> Tensor:
    """`torch.nn.functional.instance_norm` without running statistics, as PyTorch computes it."""
    if x.dim() < 3 or x[0, 0].numel() <= 1:
        return torch.nn.functional.instance_norm(x, None, None, weight, bias, True, 0.0, eps)
    lines = [None if line is None else line.repeat(len(x)) for line in (weight, bias)]
    made: Tensor = _Norm.apply(x, *lines, None, None, _Options(0.0, eps, pass_, by_image=True))
    return made


@dataclasses.dataclass(frozen=True)
class _Options:
    """What a norm is told.

    Args:
        momentum: Of the running statistics.
        eps: Is added to the variance.
        pass_: The forward pass.
        by_image: Whether each image has statistics of its own.
    """

    momentum: float
    eps: float
    pass_: Pass
    by_image: bool

    def rows(self, tensor: Tensor) -> Tensor:
        """In the shape in which each channel has statistics of its own."""
        return tensor.contiguous().view(1, -1, *tensor.shape[2:]) if self.by_image else tensor

    def images(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Back from there, in the same memory but as no view, which in place is not to change."""
        return rows.contiguous().resize_(shape) if self.by_image else rows


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
        options: _Options,
    ) -> Tensor:
        running = running_mean, running_var
        made, mean, inverse_std = torch.native_batch_norm(
            options.rows(x), weight, bias, *running, True, options.momentum, options.eps
        )
        ctx.options = options
        ctx.save_for_backward(x, weight, mean, inverse_std)
        return options.images(made, x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        found = _NormBackward.apply(grad, x, weight, mean, inverse_std, ctx.options, wanted)
        return (*found, None, None, None)


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
        options: _Options,
        wanted: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.options, ctx.wanted = options, wanted
        ctx.save_for_backward(grad, x, weight, mean, inverse_std)
        rows = options.rows(grad), options.rows(x)
        found = list(_first(*rows, weight, mean, inverse_std, options.eps, wanted))
        if wanted[0]:
            found[0] = options.images(found[0], x.shape)
        book = options.pass_.book
        if wanted[0] and is_known(grad) and is_known(x) and not is_small(x):
            numbers = None if weight is None else weight.clone()  # it may be changed until then
            again = functools.partial(_first_of_map, numbers, mean, inverse_std, options)
            origins = [book.of(grad), book.of(x)]
            book.record(found[0], again, origins, 3 * x.numel() * x.element_size())
        return tuple(g if is_wanted else None for g, is_wanted in zip(found, wanted, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, x, weight, mean, inverse_std = ctx.saved_tensors
        asked = ctx.needs_input_grad[:3]
        options: _Options = ctx.options
        given = [g is not None for g in grads]
        nothing = (None,) * 7
        if not any(given) or not any(asked):
            return nothing
        if torch.is_grad_enabled():
            given_rows = [None if g is None else _rows_of(g, options) for g in grads]
            # Stand-ins: one of the three may be a function of another.
            grad, rows, weight = stand_ins([options.rows(grad), options.rows(x), weight], asked)
            read = grad, rows, weight, mean, inverse_std
            found = _second(*read, given_rows, asked, options.eps)
            views = [t if t is None or t.dim() == 1 else t.view(x.shape) for t in found]
            return (*views, *nothing[3:])
        made: list[Tensor | None] = [
            _empty_like(t, options) if is_asked and t is not None else None
            for t, is_asked in zip((grad, x, weight), asked, strict=True)
        ]
        rows = [None if t is None else _rows_of(t, options) for t in made]
        given_rows = [None if g is None else _rows_of(g, options) for g in grads]
        grad, x = options.rows(grad), options.rows(x)
        for band in _bands(x):
            leaves = _leaf(grad[:, band]), _leaf(x[:, band]), _leaf(_part(weight, band))
            lines = mean[band], inverse_std[band]
            parts = [_part(g, band) for g in given_rows]
            found = _second(*leaves, *lines, parts, asked, options.eps)
            for whole, part in zip(rows, found, strict=True):
                if whole is not None:
                    target = whole[band] if whole.dim() == 1 else whole[:, band]
                    target.zero_() if part is None else target.copy_(part)
        return (*made, *nothing[3:])


@overload
def _leaf(tensor: Tensor) -> Tensor: ...


@overload
def _leaf(tensor: None) -> None: ...


def _leaf(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().requires_grad_()


def _rows_of(tensor: Tensor, options: _Options) -> Tensor:
    """Of a map; a line stays."""
    return tensor if tensor.dim() == 1 else options.rows(tensor)


def _empty_like(tensor: Tensor, options: _Options) -> Tensor:
    if options.by_image:  # of which rows are a view
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return torch.empty_like(tensor)


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


def _first_of_map(
    weight: Tensor | None,
    mean: Tensor,
    inverse_std: Tensor,
    options: _Options,
    grad: Tensor,
    x: Tensor,
) -> Tensor:
    rows = options.rows(grad), options.rows(x)
    wanted = (True, False, False)
    return _first(*rows, weight, mean, inverse_std, options.eps, wanted)[0].view(x.shape)


def _second(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse_std: Tensor,
    grads: Sequence[Tensor | None],
    asked: Sequence[bool],
    eps: float,
) -> list[Tensor | None]:
    """The gradients of the first gradients by the first three, where these are asked for."""
    is_differentiated = torch.is_grad_enabled()
    with torch.enable_grad():
        given = [g is not None for g in grads]
        first = _first(grad, x, weight, mean, inverse_std, eps, given)
        outputs = [(f, g) for f, g in zip(first, grads, strict=True) if g is not None]
        read = (grad, x, weight)
        wanted = [t for t, is_asked in zip(read, asked, strict=True) if is_asked and t is not None]
        found = iter(
            torch.autograd.grad(
                [f for f, _ in outputs],
                wanted,
                [g for _, g in outputs],
                create_graph=is_differentiated,
                allow_unused=True,
            )
        )
    return [
        next(found) if is_asked and t is not None else None
        for t, is_asked in zip(read, asked, strict=True)
    ]
