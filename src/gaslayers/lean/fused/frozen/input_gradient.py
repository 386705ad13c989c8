"""The gradient of what a convolution reads, from its weight alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.execution import is_batch
from gaslayers.lean.fused.pool.kernel_pool import KernelPool
from gaslayers.lean.native import image_gradient

_Sizes: TypeAlias = tuple[int, ...]

_TRIAL_VALUES = 2**20


def input_gradient(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    strides: Sequence[int],
    geometry: ConvolutionGeometry,
) -> Tensor:
    """Gradient of a convolution's output -> that of its input, of these shape and strides."""
    if _takes_kernel(grad, tuple(grad.shape), weight, shape, strides, geometry):
        return image_gradient.run(grad, weight, shape, geometry.padding)
    return _by_operator(grad, weight, shape, strides, geometry)


def input_gradient_of_pooled(
    grad: Tensor,
    packed: Tensor,
    pool: KernelPool,
    weight: Tensor,
    shape: Sequence[int],
    strides: Sequence[int],
    geometry: ConvolutionGeometry,
) -> Tensor:
    """The same from the gradient of what the convolution's output was activated and pooled to.

    Args:
        grad: (N, out_channels, H', W'), pooled.
        packed: The codes of the pooling.
        pool: The pooling.
        weight: The convolution's.
        shape: Of its input.
        strides: Likewise.
        geometry: The convolution's.
    """
    if not (torch.is_grad_enabled() or is_batch(grad)):
        grad = grad.contiguous(memory_format=pool.layout)  # which kernels read as lines
        if _takes_kernel(grad, tuple(pool.shape), weight, shape, strides, geometry):
            pooled = image_gradient.Pooled(packed, pool.slope, *pool.shape[2:])
            return image_gradient.run(grad, weight, shape, geometry.padding, pooled)
    grad = pool.backward(grad, (packed,))
    return input_gradient(grad, weight, shape, strides, geometry)


def _takes_kernel(
    grad: Tensor,
    output_shape: _Sizes,
    weight: Tensor,
    shape: Sequence[int],
    strides: Sequence[int],
    geometry: ConvolutionGeometry,
) -> bool:
    """Whether a kernel of our own finds this gradient, and to the bit."""
    return (
        not (torch.is_grad_enabled() or is_batch(grad))
        and image_gradient.suits(grad, weight, shape, geometry)
        and _is_exact(
            *(tuple(shape), tuple(strides), output_shape, tuple(weight.shape)),
            *(weight.stride(), geometry.padding, torch.get_num_threads()),
        )
    )


def _by_operator(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    strides: Sequence[int],
    geometry: ConvolutionGeometry,
) -> Tensor:
    # The operator reads its input's shape and strides alone. Memory that is never written costs
    # nothing; a broadcast scalar would be copied to the full shape.
    like = torch.empty_strided(shape, strides, dtype=grad.dtype, device=grad.device)
    grad_x: Any = geometry.gradients(grad, like, weight, (True, False, False))[0]
    return grad_x


@functools.lru_cache(maxsize=1024)
def _is_exact(
    shape: _Sizes,
    strides: _Sizes,
    grad_shape: _Sizes,
    weight_shape: _Sizes,
    weight_strides: _Sizes,
    padding: tuple[int, int],
    _threads: int,
) -> bool:
    """Whether PyTorch adds in the kernel's order, which depends on sizes and how it was compiled.

    Told by random maps of these sizes, of a smaller batch where that would take much memory.
    """
    _, channels, height, width = grad_shape
    count = min(shape[0], 1 + _TRIAL_VALUES // (channels * height * width))
    options: Any = {"dtype": torch.float32, "device": "cpu"}
    random = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0), **options)
    with _disable_current_modes(), torch.no_grad():
        grad = random((count, height, width, channels)).permute(0, 3, 1, 2)
        weight = torch.empty_strided(weight_shape, weight_strides, **options)
        weight.copy_(random(weight_shape))
        shape = (count, *shape[1:])
        found = image_gradient.run(grad, weight, shape, padding)
        expected = _by_operator(grad, weight, shape, strides, ConvolutionGeometry(padding=padding))
        return torch.equal(found, expected) and found.stride() == expected.stride()
