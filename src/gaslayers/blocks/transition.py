"""The transition between dense blocks: fewer channels, half the height and width."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from gaslayers._checks import (
    check_factory,
    check_feature_map,
    check_float,
    check_int,
    check_memory_efficient,
    is_traced,
)
from gaslayers._typing import ActivationLayer, BlockLayer, MemoryEfficient, NormLayer, PoolLayer
from gaslayers.blocks._block import Block, least_sides_before
from gaslayers.blocks._closed_forms import layer_macs, layer_params, output_size
from gaslayers.blocks._construction import (
    Device,
    build_layer,
    make_activation,
    make_norm,
    make_pool,
    placed,
)
from gaslayers.blocks._dense_plan import read_layer, read_or_reason
from gaslayers.lean.execution import Execution, plain
from gaslayers.lean.fused.parts.layer import Layer
from gaslayers.lean.fused.parts.pre_activation import run_pre_activation
from gaslayers.lean.fused.pool.activation_pool import activate_and_pool, reason_against_codes
from gaslayers.lean.precision import suits


class TransitionBlock(Block):
    """Normalise, activate, convolve to fewer channels and pool by 2.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; None: ``floor(compression * in_channels)``,
            at least 1.
        compression: Share of the channels kept where ``out_channels`` is None.
        pool_layer: Factory of the pooling, called with the kernel size 2, or None.
        layer: Factory of the convolution, called as ``layer(in_channels, out_channels)``; None:
            a 1x1 convolution.
        norm_layer: Factory of the norm, or None.
        activation_layer: Factory of the activation, or None.
        memory_efficient: Let a lean path run where there is one; same outputs and gradients.
            ``"recompute"``: run the inner convolutions of ``layer`` a second time in the backward
            pass rather than keep what they made.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, in_channels, H, W), H and W at least what the pooling takes.
        - Output: (N, out_channels, floor(H / 2), floor(W / 2)) with the default pooling.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A size below 1, a compression outside (0, 1], a layer with other
            ``out_channels``, an input of another rank or channel count.

    Note:
        Differs from the paper: nothing with the defaults (DenseNet-C, which adds the activation
        in its code). GAS (2018) used an inception convolution to 4 channels as ``layer``.

    Example:
        >>> import torch
        >>> block = TransitionBlock(40)
        >>> block(torch.zeros(2, 40, 7, 7)).shape
        torch.Size([2, 20, 3, 3])

    References:
        Huang et al., Densely Connected Convolutional Networks, arXiv:1608.06993, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        compression: float = 0.5,
        pool_layer: PoolLayer | None = nn.AvgPool2d,
        layer: BlockLayer | None = None,
        norm_layer: NormLayer | None = nn.BatchNorm2d,
        activation_layer: ActivationLayer | None = nn.ReLU,
        memory_efficient: MemoryEfficient = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        in_channels = check_int(owner, "in_channels", in_channels)
        compression = check_float(owner, "compression", compression, above=0.0, maximum=1.0)
        if out_channels is None:
            out_channels = max(1, int(compression * in_channels))
        out_channels = check_int(owner, "out_channels", out_channels)
        check_factory(owner, "pool_layer", pool_layer)
        check_factory(owner, "layer", layer)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        check_memory_efficient(owner, memory_efficient)

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.compression = compression
        self.pool_layer = pool_layer
        self.layer = layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.memory_efficient = memory_efficient

        convolution = (
            functools.partial(nn.Conv2d, kernel_size=1, bias=norm_layer is None)
            if layer is None
            else layer
        )
        with placed(owner, device, dtype) as put:
            self.norm = make_norm(owner, norm_layer, in_channels)
            self.activation = make_activation(owner, activation_layer)
            self.conv = build_layer(
                owner, "layer", convolution, in_channels, out_channels, out_channels=out_channels
            )
            self.pool = make_pool(owner, pool_layer)
            if not memory_efficient:
                self._make_inside_plain()
            put(self)

    def _layer(self) -> tuple[Layer, list[Tensor]] | str:
        """What the lean path runs in front of the pooling, or the reason for the plain one."""
        front = (self.norm, self.activation, self.conv)
        return read_or_reason(read_layer, self, *front, behind=self.pool)

    def least_sides(self, count: int = 1) -> tuple[int, int]:
        """The smallest height and width of an input that gives so many rows and columns."""
        return least_sides_before(self.conv, self.pool, count)

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        layer = self._layer()
        if isinstance(layer, str):
            return plain(layer)
        return Execution("pre-activation", "norm and activation are computed again, not kept")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, floor(H / 2), floor(W / 2))."""
        check_feature_map(type(self).__name__, x, self.in_channels, least=self.least_sides())
        if is_traced(x):
            return self.pool(self.conv(self.activation(self.norm(x))))
        layer = self._layer()
        if isinstance(layer, str) or not suits(x, layer[1]):
            # N x out_channels x H x W
            x = self.conv(self.activation(self.norm(x)))
            return self.pool(x)
        x = run_pre_activation(*layer, x)
        if reason_against_codes(nn.Identity(), self.pool) is None:
            return activate_and_pool(x, nn.Identity(), self.pool)
        return self.pool(x)

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample: ``H W in_channels out_channels`` for the 1x1.

        Args:
            height: Height of the input.
            width: Width of the input.

        Raises:
            ValueError: ``layer`` built a layer without a closed form.
        """
        owner = type(self).__name__
        output_size(owner, height, width)
        return layer_macs(owner, "layer", self.conv, height, width)

    def expected_params(self) -> int:
        """Trainable parameters of the layer, the norm and the activation.

        Raises:
            ValueError: A factory built a layer whose parameters no formula knows.
        """
        owner = type(self).__name__
        return (
            layer_params(owner, "layer", self.conv)
            + layer_params(owner, "norm_layer", self.norm)
            + layer_params(owner, "activation_layer", self.activation)
        )
