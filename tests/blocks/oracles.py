"""Slow, plain references for the blocks: one number at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def padded_at_both_sides(x: Tensor, total: int) -> Tensor:
    """``total`` rows and columns of zeros; of an odd number the last goes to bottom and right."""
    before, after = total // 2, total - total // 2
    images, channels, height, width = x.shape
    padded = torch.zeros(images, channels, height + total, width + total, dtype=x.dtype)
    padded[:, :, before : before + height, before : before + width] = x
    assert after - before in (0, 1)
    return padded


def slow_same_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """The convolution whose output has the input's size at stride 1, as seven loops."""
    out_channels, group_width, kernel_size, _ = weight.shape
    images, _, height, width = x.shape
    padded = padded_at_both_sides(x, dilation * (kernel_size - 1)).tolist()
    kernels = weight.tolist()
    offsets = [0.0] * out_channels if bias is None else bias.tolist()
    out_per_group = out_channels // groups
    y = torch.zeros(images, out_channels, -(-height // stride), -(-width // stride), dtype=x.dtype)
    for n in range(images):
        for o in range(out_channels):
            first = o // out_per_group * group_width
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    total = offsets[o]
                    for c in range(group_width):
                        plane = padded[n][first + c]
                        for u in range(kernel_size):
                            row = plane[i * stride + u * dilation]
                            for v in range(kernel_size):
                                total += row[j * stride + v * dilation] * kernels[o][c][u][v]
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
