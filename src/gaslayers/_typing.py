"""Names for the kinds of callables that blocks are built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import nn

ConvLayer: TypeAlias = Callable[..., nn.Module]
"""``conv_layer(in_channels, out_channels, kernel_size, **options)``, as `torch.nn.Conv2d`."""

NormLayer: TypeAlias = Callable[[int], nn.Module]
"""``norm_layer(num_features)``, as `torch.nn.BatchNorm2d`."""

ActivationLayer: TypeAlias = Callable[[], nn.Module]
"""``activation_layer()``, as `torch.nn.ReLU`."""

PoolLayer: TypeAlias = Callable[[int], nn.Module]
"""``pool_layer(kernel_size)``, as `torch.nn.MaxPool2d`."""

BlockLayer: TypeAlias = Callable[[int, int], nn.Module]
"""``block(in_channels, out_channels)``, as any block of this library with its options bound."""

MemoryEfficient: TypeAlias = bool | Literal["recompute"]
"""Plain, lean, or lean at the price of computing something twice."""
