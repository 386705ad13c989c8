"""A convolution that reads an image, activation and 2x2 max pooling as one function.

The map between convolution and pooling is the largest of a network. Kernels of our own do without
it, forward, and for a frozen convolution backward, too.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from gaslayers.lean.activations import IDENTITY, known_slope
from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.engine.version import check_seen, seen
from gaslayers.lean.fused.frozen.input_gradient import input_gradient_of_pooled
from gaslayers.lean.fused.pool.kernel_pool import KernelPool
from gaslayers.lean.layout import dense_strides, layout_of
from gaslayers.lean.native import image_stage
from gaslayers.lean.native import pool as native_pool
from gaslayers.lean.native.norm_call import LAYOUT
from gaslayers.lean.native.windows import WINDOW
from gaslayers.lean.precision import has_autocast
from gaslayers.lean.rerun import save, saved

_ONCE = (1, 1)
_TRIAL_VALUES = 2**20

_Sizes = tuple[int, ...]


class ImageStage(torch.autograd.Function):
    """The three layers, by their parameters."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, int],
        slope: float,
        ceil_mode: bool,
        columns_first: bool,
    ) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H' / 2, W' / 2), rounded up in ceil mode."""
        pooled, packed = image_stage.run(
            x, weight, bias, padding, slope, ceil_mode=ceil_mode, columns_first=columns_first
        )
        shape = image_stage.map_shape(x, weight, padding)
        ctx.pool = KernelPool(slope, WINDOW, ceil_mode, shape, LAYOUT)
        ctx.shape, ctx.strides, ctx.padding = x.shape, dense_strides(x), padding
        # The gradient of the weight alone reads the input.
        save(ctx, weight, packed, x if ctx.needs_input_grad[1] else None)
        ctx.seen = seen(x)
        return pooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """(N, out_channels, H' / 2, W' / 2) -> the gradients of input, weight and bias."""
        weight, packed, x = saved(ctx)
        check_seen(ctx.seen)
        wants = list(ctx.needs_input_grad[:3])
        geometry = ConvolutionGeometry(padding=ctx.padding)
        if wants == [True, False, False]:
            grad_x = input_gradient_of_pooled(
                grad, packed, ctx.pool, weight, ctx.shape, ctx.strides, geometry
            )
            return grad_x, *[None] * 6
        grad = ctx.pool.backward(grad, (packed,))
        if x is None:  # of which the shape and the strides are read
            x = torch.empty_strided(ctx.shape, ctx.strides, dtype=grad.dtype, device=grad.device)
        return *geometry.gradients(grad, x, weight, wants), *[None] * 4


def order_of_sums(conv: Any, x: Tensor, pool: Any) -> bool | None:
    """Whether sums run over the kernel's columns first; None: the kernels do not take these.

    Args:
        conv: What reads ``x``.
        x: (N, C, H, W).
        pool: One that `activation_pool.reason_against_codes` has nothing against.
    """
    if type(conv) is not nn.Conv2d or type(pool) is not nn.MaxPool2d or has_autocast(x.device):
        return None
    padding: Any = conv.padding
    plain = (conv.stride, conv.dilation, conv.groups) == (_ONCE, _ONCE, 1)
    if not plain or conv.padding_mode != "zeros" or isinstance(padding, str):
        return None
    weight, bias = conv.weight, conv.bias
    if weight.shape[0] == 1:  # a map of one channel is in both memory formats
        return None
    if pool.kernel_size != WINDOW or not image_stage.suits(x, weight, bias, padding):
        return None
    return _order(
        *(tuple(x.shape), x.stride(), tuple(weight.shape), weight.stride()),
        *(bias is None, padding, torch.get_num_threads()),
    )


def run_image_stage(
    conv: Any, x: Tensor, activation: nn.Module, pool: Any, *, columns_first: bool
) -> Tensor:
    """Run the three, the activation one of known slope, summing as `order_of_sums` says."""
    slope = known_slope(activation)
    return ImageStage.apply(
        x, conv.weight, conv.bias, conv.padding, slope, pool.ceil_mode, columns_first
    )


@functools.lru_cache(maxsize=1024)
def _order(
    shape: _Sizes,
    strides: _Sizes,
    weight_shape: _Sizes,
    weight_strides: _Sizes,
    is_without_bias: bool,
    padding: tuple[int, int],
    _threads: int,
) -> bool | None:
    """The order in which PyTorch adds, which depends on sizes and how it was compiled.

    Told by random maps of these sizes, of a smaller batch where that would take much memory. None:
    it is neither order.
    """
    count, _, height, width = shape
    made = weight_shape[0]
    count = min(count, 1 + _TRIAL_VALUES // (made * height * width))
    random = functools.partial(
        torch.randn, generator=torch.Generator().manual_seed(0), device="cpu", dtype=torch.float32
    )
    with _disable_current_modes(), torch.no_grad():
        empty = functools.partial(torch.empty_strided, dtype=torch.float32, device="cpu")
        x = empty((count, *shape[1:]), strides)
        x.copy_(random(x.shape))
        weight = empty(weight_shape, weight_strides)
        weight.copy_(random(weight_shape))
        bias = None if is_without_bias else random(made)
        convolved = F.conv2d(x, weight, bias, padding=padding)
        if layout_of(convolved) != LAYOUT:
            return None
        expected, codes = native_pool.pool(convolved, IDENTITY, LAYOUT, ceil_mode=True)
        for columns_first in (True, False):
            found, found_codes = image_stage.run(
                *(x, weight, bias, padding, IDENTITY),
                ceil_mode=True,
                columns_first=columns_first,
            )
            if torch.equal(found, expected) and torch.equal(found_codes, codes):
                return columns_first
    return None
