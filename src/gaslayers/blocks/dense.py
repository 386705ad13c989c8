"""The dense block: every layer reads all features so far and adds its own."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from gaslayers._checks import (
    MOST,
    bad_value,
    check_factory,
    check_feature_map,
    check_float,
    check_int,
    check_memory_efficient,
    is_traced,
)
from gaslayers._typing import ActivationLayer, BlockLayer, MemoryEfficient, NormLayer
from gaslayers.blocks._block import Block
from gaslayers.blocks._closed_forms import layer_macs, layer_params, output_size
from gaslayers.blocks._construction import Device, handing_on, placed
from gaslayers.blocks._dense_plan import read_or_reason, read_plan
from gaslayers.blocks.dense_layer import DenseBottleneck, DenseLayer
from gaslayers.lean.execution import Execution, plain
from gaslayers.lean.fused.dense.features import Plan, run_dense
from gaslayers.lean.precision import suits

_MOST_LAYERS = 10_000  # more would be a slip, and building them would not end


class DenseBlock(Block):
    """Add ``growth_rate`` channels a layer, each layer reading the input and all earlier features.

    ``out_channels = in_channels + num_layers * growth_rate``; the input's channels come first.

    Args:
        in_channels: Channels of the input.
        growth_rate: Channels that each layer adds.
        num_layers: How many layers.
        bottleneck_factor: Put a 1x1 convolution to ``bottleneck_factor * growth_rate`` channels
            before each 3x3 (DenseNet-B takes 4); None: the 3x3 reads all features itself.
        layer: Factory of each layer's convolution, called as ``layer(in_channels, growth_rate)``,
            such as `InceptionBlock` or `DepthwiseInceptionBlock`; None: the 3x3 or the bottleneck.
        norm_layer: Factory of the norm in front of each convolution, or None.
        activation_layer: Factory of the activation in front of each convolution, or None.
        drop_rate: Probability of dropping a new feature's value in training.
        memory_efficient: Let a lean path run where there is one; same outputs and gradients.
            The backward pass then reads the output, which must not be changed in place: an
            in-place layer behind the block raises PyTorch's error, and wants
            ``memory_efficient=False``. Bare branches of an `InceptionBlock` as ``layer`` may run as
            one convolution, which agrees to rounding.
            ``"recompute"``: run the inner convolutions of a layer a second time in the backward
            pass rather than keep what they made.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, in_channels, H, W) with H, W >= 1.
        - Output: (N, in_channels + num_layers * growth_rate, H, W).

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A size below 1, a drop rate outside [0, 1), ``layer`` together with
            ``bottleneck_factor``, an input of another rank or channel count.

    Note:
        Differs from the paper: nothing with the defaults (DenseNet) or ``bottleneck_factor=4``
        (DenseNet-B). GAS (2018) used inception convolutions and put new features first, the same
        function up to the order of channels.

    Example:
        >>> import torch
        >>> block = DenseBlock(16, 8, num_layers=3)
        >>> block(torch.zeros(2, 16, 7, 7)).shape
        torch.Size([2, 40, 7, 7])

    References:
        Huang et al., Densely Connected Convolutional Networks, arXiv:1608.06993, equation 2.
    """

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        *,
        num_layers: int = 4,
        bottleneck_factor: int | None = None,
        layer: BlockLayer | None = None,
        norm_layer: NormLayer | None = nn.BatchNorm2d,
        activation_layer: ActivationLayer | None = nn.ReLU,
        drop_rate: float = 0.0,
        memory_efficient: MemoryEfficient = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        in_channels = check_int(owner, "in_channels", in_channels)
        growth_rate = check_int(owner, "growth_rate", growth_rate)
        num_layers = check_int(owner, "num_layers", num_layers, maximum=_MOST_LAYERS)
        most = (MOST - in_channels) // num_layers
        growth_rate = check_int(owner, "growth_rate", growth_rate, maximum=most)
        check_factory(owner, "layer", layer)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        drop_rate = check_float(owner, "drop_rate", drop_rate, minimum=0.0, below=1.0)
        check_memory_efficient(owner, memory_efficient)
        if bottleneck_factor is not None:
            most = MOST // growth_rate
            bottleneck_factor = check_int(
                owner, "bottleneck_factor", bottleneck_factor, maximum=most
            )
            if layer is not None:
                rule = "be None when `layer` is given"
                raise bad_value(owner, "bottleneck_factor", rule, bottleneck_factor)

        self.in_channels = in_channels
        self.growth_rate = growth_rate
        self.num_layers = num_layers
        self.bottleneck_factor = bottleneck_factor
        self.layer = layer
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.drop_rate = drop_rate
        self.memory_efficient = memory_efficient
        self.out_channels = in_channels + num_layers * growth_rate

        with placed(owner, device, dtype) as put, handing_on(owner):
            self.layers = nn.ModuleList(
                DenseLayer(
                    in_channels + i * growth_rate,
                    growth_rate,
                    layer=self._convolution(),
                    norm_layer=norm_layer,
                    activation_layer=activation_layer,
                    drop_rate=drop_rate,
                )
                for i in range(num_layers)
            )
            if not memory_efficient:
                self._make_inside_plain()
            put(self)

    def _convolution(self) -> BlockLayer:
        if self.layer is not None:
            return self.layer
        if self.bottleneck_factor is not None:
            return functools.partial(
                DenseBottleneck,
                bottleneck_channels=self.bottleneck_factor * self.growth_rate,
                norm_layer=self.norm_layer,
                activation_layer=self.activation_layer,
            )
        # A later norm takes out a constant, as in the paper's code.
        return functools.partial(nn.Conv2d, kernel_size=3, padding=1, bias=self.norm_layer is None)

    def _plan(self) -> tuple[Plan, list[Tensor]] | str:
        """What the lean path runs, or the reason for the plain one."""
        return read_or_reason(read_plan, self, self.layers)

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        plan = self._plan()
        if isinstance(plan, str):
            return plain(plan)
        return Execution("one buffer", "of the features only the output is kept")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, in_channels + num_layers * growth_rate, H, W)."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        if is_traced(x):
            return self._forward_plain(x)
        plan = self._plan()
        if isinstance(plan, str) or not suits(x, plan[1]):
            return self._forward_plain(x)
        return run_dense(*plan, x)

    def _forward_plain(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            # N x (in_channels + i * growth_rate) x H x W
            x = torch.cat([x, layer(x)], dim=1)
        return x

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample, the sum over layers i of ``c = in_channels + i k`` channels.

        With the growth rate k each costs ``H W 9 c k``; with a bottleneck of factor b
        ``H W (c b k + 9 b k^2)``; with a ``layer`` of its own, what that one says.

        Args:
            height: Height of the input.
            width: Width of the input.

        Raises:
            ValueError: ``layer`` built one without a closed form.
        """
        owner = type(self).__name__
        output_size(owner, height, width)
        return sum(layer_macs(owner, "layer", layer.conv, height, width) for layer in self.layers)

    def expected_params(self) -> int:
        """Trainable parameters of all layers, the norms in front included.

        Raises:
            ValueError: A factory built a layer whose parameters no formula knows.
        """
        owner = type(self).__name__
        return sum(
            layer_params(owner, "norm_layer", layer.norm)
            + layer_params(owner, "activation_layer", layer.activation)
            + layer_params(owner, "layer", layer.conv)
            for layer in self.layers
        )
