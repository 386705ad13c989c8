"""What the pooling kernels compute, by PyTorch's operators: for tensors that fit no kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gaslayers.lean.activations import IDENTITY, activate, activation_backward
from gaslayers.lean.fused.pool.codes import CellCodes
from gaslayers.lean.fused.pool.packing import pack_digits, unpack_digits
from gaslayers.lean.native.windows import PLACES, WINDOW, codes_size, is_pooled, radix_of


def pool(
    x: Tensor, slope: float, layout: torch.memory_format, *, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """As `gaslayers.lean.native.pool.pool`."""
    width = x.shape[3]
    pooled, indices = F.max_pool2d(
        activate(x, slope), WINDOW, ceil_mode=ceil_mode, return_indices=True
    )
    # Windows begin at even rows and columns.
    digits = WINDOW * (indices // width % WINDOW) + indices % width % WINDOW
    if slope == 0.0:
        digits = digits.masked_fill(pooled <= 0, PLACES)
    elif slope != IDENTITY:
        digits = digits + PLACES * (pooled > 0)
    if layout == torch.channels_last:
        digits = digits.permute(0, 2, 3, 1)
    packed = pack_digits(digits.to(torch.uint8).flatten(), radix_of(slope))
    return pooled.contiguous(memory_format=layout), packed


def places_of(
    packed: Tensor,
    pooled: torch.Size,
    shape: Sequence[int],
    slope: float,
    layout: torch.memory_format,
) -> tuple[Tensor, Tensor | None]:
    """The places within a plane, int64, and what is zero where there was no sign.

    Args:
        packed: The codes of the windows.
        pooled: Shape of what was pooled.
        shape: Of what it was pooled from.
        slope: The activation's.
        layout: In which the windows were gone through.

    Raises:
        RuntimeError: There are not as many codes as windows.
    """
    size = codes_size(pooled, slope)
    if packed.numel() != size:
        raise RuntimeError(f"saved codes should contain {size} elements not {packed.numel()}")
    digits = unpack_digits(packed.flatten(), radix_of(slope), pooled.numel())
    if layout == torch.channels_last:
        count, channels, height, width = pooled
        digits = digits.view(count, height, width, channels).permute(0, 3, 1, 2)
    else:
        digits = digits.view(pooled)
    positive = None
    if slope != IDENTITY:
        positive = digits < PLACES if slope == 0.0 else digits >= PLACES
    # Without signs, which are known by now.
    codes = CellCodes(shape[3], WINDOW, signed=False)
    places, _ = codes.decode((digits % PLACES,))
    return places, positive


def unpool(
    grad: Tensor, packed: Tensor, shape: Sequence[int], slope: float, layout: torch.memory_format
) -> Tensor:
    """As `gaslayers.lean.native.pool.unpool`.

    Raises:
        RuntimeError: The gradient or the codes are of another size.
    """
    if not is_pooled(grad.shape, shape):
        raise RuntimeError(f"a gradient of shape {tuple(grad.shape)} is none of {tuple(shape)}")
    places, positive = places_of(packed, grad.shape, shape, slope, layout)
    grad = grad + 0.0  # as where a gradient is added to zeros: -0.0 becomes 0.0
    if positive is not None:
        grad = activation_backward(grad, positive, slope)
    spread = F.max_unpool2d(grad, places, [WINDOW] * 2, output_size=list(shape[2:]))
    return spread.contiguous(memory_format=layout)
