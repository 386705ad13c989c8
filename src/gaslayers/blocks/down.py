"""One stage of a discriminator: a block, then norm, activation and pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gaslayers._checks import (
    check_factory,
    check_feature_map,
    check_int,
    check_memory_efficient,
    is_traced,
)
from gaslayers._typing import (
    ActivationLayer,
    BlockLayer,
    MemoryEfficient,
    NormLayer,
    PoolLayer,
)
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
from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.lean.execution import Execution, plain, reason_against_lean, takes_input
from gaslayers.lean.fused.parts.units import take_apart
from gaslayers.lean.fused.pool.activation_pool import reason_against_codes
from gaslayers.lean.fused.stage.image import order_of_sums, run_image_stage
from gaslayers.lean.fused.stage.normed import normalize_activate_and_pool
from gaslayers.lean.fused.stage.recomputed import reason_against_recomputing, run_recomputed
from gaslayers.lean.modules import reason_against_replacing
from gaslayers.lean.native import image_stage


class DownBlock(Block):
    """Run a block, normalise, activate and pool by 2.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        block: Factory of the block, called as ``block(in_channels, out_channels)``; by default
            a 3x3 convolution.
        norm_layer: Factory of the norm, or None.
        activation_layer: Factory of the activation, or None.
        pool_layer: Factory of the pooling, called with the kernel size 2, or None. With
            ``partial(nn.MaxPool2d, ceil_mode=True)`` a last odd row or column is kept.
        memory_efficient: Let a lean path run where there is one; same outputs and gradients.
            ``"recompute"``: keep still less, and run a block in front of a batch norm a second
            time in the backward pass, but for a frozen convolution that is dear to run again.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, in_channels, H, W), H and W at least what the pooling takes.
        - Output: (N, out_channels, floor(H / 2), floor(W / 2)) with the defaults.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: A size below 1, a block with other ``out_channels``, an input of another rank
            or channel count.

    Note:
        Differs from the paper: no paper; the stage of GAS (2018), whose SAME max pooling is
        ``ceil_mode=True``.

    Example:
        >>> import torch
        >>> stage = DownBlock(1, 32)
        >>> stage(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 32, 14, 14])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        block: BlockLayer = ConvNormAct,
        norm_layer: NormLayer | None = nn.BatchNorm2d,
        activation_layer: ActivationLayer | None = nn.ReLU,
        pool_layer: PoolLayer | None = nn.MaxPool2d,
        memory_efficient: MemoryEfficient = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        in_channels = check_int(owner, "in_channels", in_channels)
        out_channels = check_int(owner, "out_channels", out_channels)
        check_factory(owner, "block", block, optional=False)
        check_factory(owner, "norm_layer", norm_layer)
        check_factory(owner, "activation_layer", activation_layer)
        check_factory(owner, "pool_layer", pool_layer)
        check_memory_efficient(owner, memory_efficient)

        self.in_channels = in_channels
        self.out_channels = out_channels
        self.norm_layer = norm_layer
        self.activation_layer = activation_layer
        self.pool_layer = pool_layer
        self.memory_efficient = memory_efficient

        self.block = block
        with placed(owner, device, dtype) as put:
            # The factory and the child share the word `block`: the child is the stage's body.
            self.body = build_layer(
                owner, "block", block, in_channels, out_channels, out_channels=out_channels
            )
            self.norm = make_norm(owner, norm_layer, out_channels)
            self.activation = make_activation(owner, activation_layer)
            self.pool = make_pool(owner, pool_layer)
            if not memory_efficient:
                self._make_inside_plain()
            put(self)

    def least_sides(self, count: int = 1) -> tuple[int, int]:
        """The smallest height and width of an input that gives so many rows and columns."""
        return least_sides_before(self.body, self.pool, count)

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        reason = reason_against_codes(self.activation, self.pool) or reason_against_lean(
            (self.activation, self.pool), memory_efficient=bool(self.memory_efficient)
        )
        if reason:
            return plain(reason)
        kept = "signs" if isinstance(self.pool, nn.AvgPool2d) else "positions and signs"
        packed = f"only {kept} are kept of activation and pooling, a byte a cell or less"
        if self.memory_efficient != "recompute":
            return Execution("packed", packed)
        reason = reason_against_recomputing(self.body, self.norm, self.pool)
        if reason:
            return Execution("packed", f"{packed}; nothing is recomputed: {reason}")
        return Execution("recomputed", f"{packed}, and nothing of the norm")

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, floor(H / 2), floor(W / 2))."""
        check_feature_map(type(self).__name__, x, self.in_channels, least=self.least_sides())
        if is_traced(x):
            return self.pool(self.activation(self.norm(self.body(x))))
        is_lean = torch.is_grad_enabled() and takes_input(x)
        path = self.execution.path if is_lean else "plain"
        if path == "recomputed":
            unit = take_apart(self.body) if type(self.body) is ConvNormAct else None
            return run_recomputed(x, self.body, self.norm, self.activation, self.pool, unit)
        if path == "packed" and self.in_channels <= image_stage.MAX_CHANNELS:
            pooled = self._run_as_image_stage(x)
            if pooled is not None:
                return pooled
        # The body's output, N x out_channels x H x W, is not held here: it may be freed on the way.
        if path == "packed":
            return normalize_activate_and_pool(self.body(x), self.norm, self.activation, self.pool)
        x = self.norm(self.body(x))
        return self.pool(self.activation(x))

    def _run_as_image_stage(self, x: Tensor) -> Tensor | None:
        """Run kernels that do without the body's output, if there are any for these layers."""
        body = self.body
        if type(body) is not ConvNormAct or body.extra_padding or not body.memory_efficient:
            return None
        bare = body.norm, body.activation, self.norm
        if any(type(module) is not nn.Identity for module in bare):
            return None
        if reason_against_replacing((body, body.conv, *bare)):
            return None
        order = order_of_sums(body.conv, x, self.pool)
        if order is None:
            return None
        return run_image_stage(body.conv, x, self.activation, self.pool, columns_first=order)

    def expected_macs(self, height: int, width: int) -> int:
        """Multiply-adds of one sample: those of its block.

        Args:
            height: Height of the input.
            width: Width of the input.

        Raises:
            ValueError: ``block`` built a layer without a closed form.
        """
        owner = type(self).__name__
        output_size(owner, height, width)
        return layer_macs(owner, "block", self.body, height, width)

    def expected_params(self) -> int:
        """Trainable parameters of the block, the norm and the activation.

        Raises:
            ValueError: A factory built a layer whose parameters no formula knows.
        """
        owner = type(self).__name__
        return (
            layer_params(owner, "block", self.body)
            + layer_params(owner, "norm_layer", self.norm)
            + layer_params(owner, "activation_layer", self.activation)
        )
