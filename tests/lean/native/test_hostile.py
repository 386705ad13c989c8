"""Shapes at which a kernel could leave its memory; `.ci/run` runs these under sanitizers.

Values are compared with the operators that take over where a tensor does not fit.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from unittest import mock

import pytest
import torch
from torch import Tensor

from gaslayers.lean.batch_norm import BatchNormCall
from gaslayers.lean.native import (
    image_gradient,
    image_stage,
    kernels,
    norm,
    norm_pool,
    norm_reference,
    pool,
    pool_reference,
)
from gaslayers.lean.native.compiling import library_path
from gaslayers.lean.native.kernels import Kernels
from gaslayers.lean.native.windows import WINDOW
from tests.lean.native.maps import LAST
from tests.lean.native.needs import CAPABILITIES, needs_kernels

FIRST = torch.contiguous_format
SLOPES = (0.0, 0.2, 1.0)
TOLERANCES = {torch.float32: {"rtol": 1e-4, "atol": 1e-4}, torch.float64: {}}

pytestmark = needs_kernels


@pytest.fixture(params=CAPABILITIES)
def _level(request, monkeypatch):
    """Each library that this processor can run."""
    loaded = mock.Mock(kernels=Kernels(library_path(request.param)))
    monkeypatch.setattr(kernels, "load", lambda: loaded)


def tight(
    shape: tuple[int, ...], dtype: torch.dtype, *, stride: int = 0, offset: int = 0
) -> Tensor:
    """A map in channels_last that ends with its memory, so that what lies behind is nobody's.

    Args:
        shape: (N, C, H, W).
        dtype: Of its values.
        stride: From pixel to pixel; 0: as many as channels.
        offset: Values before it, which no vector is aligned with.
    """
    count, channels, height, width = shape
    stride = stride or channels
    size = (count * height * width - 1) * stride + channels
    generator = torch.Generator().manual_seed(size + offset)
    memory = torch.randn(offset + size, dtype=dtype, generator=generator)
    strides = (height * width * stride, 1, width * stride, stride)
    return memory.as_strided(shape, strides, offset)


SHAPES = [
    (1, 1, 2, 2),  # one channel
    (1, 2, 1, 2),  # a row
    (3, 2, 2, 1),  # a column
    (1, 1, 3, 3),
    (1, 7, 3, 5),  # odd
    (2, 8, 2, 2),
    (1, 9, 5, 2),
    (3, 33, 3, 3),
    (1, 65, 3, 7),  # more channels than lines are made of
    (1, 3, 2, 1031),  # wider than a line
    (5, 64, 2, 3),
    (1, 1030, 2, 3),
]


@pytest.mark.usefixtures("_level", "_threads")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[1] > 1])
def test_norms_stay_within_their_memory(shape, dtype) -> None:
    equal = partial(torch.testing.assert_close, equal_nan=True, **TOLERANCES[dtype])
    channels = shape[1]
    lines = [tight((1, channels, 1, 1), dtype, offset=i).flatten() for i in range(4)]
    lines[3].abs_()
    for offset, stride, slope in product((0, 1), (channels, channels + 3), SLOPES):
        make = partial(tight, shape, dtype, stride=stride)
        x, grad, more, passed = (make(offset=offset + i) for i in range(4))
        moved = [line.clone() for line in lines[2:]]
        call = BatchNormCall(*lines[:2], *moved, training=True, momentum=0.1, eps=1e-3)
        kept, y, moments = norm.run(x, call, slope_before=slope, slope_behind=slope)
        again = BatchNormCall(*lines[:2], *lines[2:], training=True, momentum=0.0, eps=1e-3)
        expected = norm_reference.run(x, again, slope, slope, overwrite=False)
        equal([kept, y, moments], list(expected))
        table, to = torch.empty(3, channels + 1, dtype=dtype)[:, :channels], make(offset=9)
        norm.measure(x, table, 1e-3, to=to)
        equal(to, x)
        equal(norm.normalize(kept, moments, *lines[:2], slope), y)
        arguments = grad, kept, moments, *lines[:2]
        found = norm.normalize_backward(
            *arguments,
            slope_before=slope,
            slope_behind=1.0,
            wanted=(True,) * 3,
            more=more,
            passed=passed,
        )
        expected_grads = norm_reference.normalize_backward(
            *arguments, slope, 1.0, (True,) * 3, more, passed
        )
        equal(list(found), list(expected_grads))


@pytest.mark.usefixtures("_level", "_threads")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape[2:]) >= WINDOW])
def test_windows_stay_within_their_memory(shape, dtype) -> None:
    equal = partial(torch.testing.assert_close, rtol=0, atol=0, equal_nan=True)
    for offset, slope, ceil_mode, layout in product((0, 1), SLOPES, (False, True), (LAST, FIRST)):
        x = tight(shape, dtype, offset=offset)
        if layout == FIRST:
            x = x.permute(0, 2, 3, 1).reshape(shape)
        pooled, packed = pool.pool(x, slope, layout, ceil_mode=ceil_mode)
        expected = pool_reference.pool(x, slope, layout, ceil_mode=ceil_mode)
        equal([pooled, packed], list(expected))
        grad = torch.randn(pooled.shape, dtype=dtype)
        found = pool.unpool(grad, packed, x.shape, slope, layout)
        equal(found, pool_reference.unpool(grad, packed, x.shape, slope, layout))
        if layout == LAST and shape[1] > 1:
            _pool_a_norm(x, slope, ceil_mode=ceil_mode)


def _pool_a_norm(x: Tensor, slope: float, *, ceil_mode: bool) -> None:
    call = BatchNormCall(None, None, None, None, training=True, momentum=0.1, eps=1e-3)
    pooled, packed, moments = norm_pool.run(x, call, slope, ceil_mode=ceil_mode)
    _, normed, _ = norm_reference.run(x, call, 1.0, 1.0, overwrite=False)
    expected, _ = pool_reference.pool(normed, slope, LAST, ceil_mode=ceil_mode)
    tolerances = TOLERANCES[x.dtype]
    torch.testing.assert_close(pooled, expected, **tolerances)
    grad = torch.randn_like(pooled)
    wanted = (True, False, False)
    found, _, _ = norm_pool.run_backward(grad, packed, x, moments, None, None, slope, wanted)
    through = pool_reference.unpool(grad, packed, x.shape, slope, LAST)
    expected_grad, _, _ = norm_reference.normalize_backward(
        *(through, x, moments, None, None, 1.0, 1.0, wanted, None, None)
    )
    torch.testing.assert_close(found, expected_grad, **tolerances)


@pytest.mark.usefixtures("_level", "_threads")
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 33), (3, 41)])
@pytest.mark.parametrize("kernel", [(2, 2), (4, 1), (1, 5), (5, 5), (7, 3)])
def test_images_stay_within_their_memory(size, kernel) -> None:
    equal = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-3)
    for count, channels, made, ceil_mode in product((1, 3), (1, 3), (1, 17), (False, True)):
        padding = (kernel[0] - 1, kernel[1] - 1)
        x = tight((count, channels, *size), torch.float32, offset=1)
        # Weights with gaps between them, the last of which ends with the memory.
        weight = tight((made, channels, *kernel), torch.float32, stride=channels + 2)
        bias = tight((1, made, 1, 1), torch.float32, offset=1).flatten()
        shape = image_stage.map_shape(x, weight, padding)
        grad = tight(tuple(shape), torch.float32, stride=made + 1, offset=1)
        found = image_gradient.run(grad, weight, x.shape, padding)
        equal(found, image_gradient.by_operator(grad, weight, x.shape, padding, None))
        if min(shape[2:]) < WINDOW:
            continue
        pooled, packed = image_stage.run(
            *(x, weight, bias, padding, 0.2), ceil_mode=ceil_mode, columns_first=False
        )
        convolved = torch.nn.functional.conv2d(x, weight, bias, padding=padding)
        convolved = convolved.contiguous(memory_format=LAST)
        equal(pooled, pool_reference.pool(convolved, 0.2, LAST, ceil_mode=ceil_mode)[0])
        windows = image_gradient.Pooled(packed, 0.2, *shape[2:])
        grad = tight(tuple(pooled.shape), torch.float32)
        found = image_gradient.run(grad, weight, x.shape, padding, windows)
        equal(found, image_gradient.by_operator(grad, weight, x.shape, padding, windows))
