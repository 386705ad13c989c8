"""Slow, plain references for the blocks: one number at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def padded_at_both_sides(x: Tensor, rows: int, columns: int) -> Tensor:
    """So many rows and columns of zeros; of an odd number the last goes to bottom and right."""
    above, left = rows // 2, columns // 2
    images, channels, height, width = x.shape
    padded = torch.zeros(images, channels, height + rows, width + columns, dtype=x.dtype)
    padded[:, :, above : above + height, left : left + width] = x
    return padded


def slow_same_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    padding: int | tuple[int, int] | None = None,
) -> Tensor:
    """The convolution as seven loops; without ``padding`` it keeps the size at stride 1."""
    out_channels, group_width, kernel_size, _ = weight.shape
    images = len(x)
    reach = dilation * (kernel_size - 1)
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    totals = [reach if each is None else 2 * each for each in (rows, columns)]
    padded = padded_at_both_sides(x, *totals)
    # Where the kernel starts: as long as it ends within the padded map.
    tops = range(0, padded.shape[2] - reach, stride)
    lefts = range(0, padded.shape[3] - reach, stride)
    padded = padded.tolist()
    kernels = weight.tolist()
    offsets = [0.0] * out_channels if bias is None else bias.tolist()
    out_per_group = out_channels // groups
    y = torch.zeros(images, out_channels, len(tops), len(lefts), dtype=x.dtype)
    for n in range(images):
        for o in range(out_channels):
            first = o // out_per_group * group_width
            for i, top in enumerate(tops):
                for j, left in enumerate(lefts):
                    total = offsets[o]
                    for c in range(group_width):
                        plane = padded[n][first + c]
                        for u in range(kernel_size):
                            row = plane[top + u * dilation]
                            for v in range(kernel_size):
                                total += row[left + v * dilation] * kernels[o][c][u][v]
                    y[n, o, i, j] = total
    return y


def slow_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel by its own mean and biased variance over batch and pixels."""
    y = torch.zeros_like(x)
    for c in range(x.shape[1]):
        values = x[:, c].flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        y[:, c] = (x[:, c] - mean) / (variance + eps) ** 0.5 * weight[c] + bias[c]
    return y
