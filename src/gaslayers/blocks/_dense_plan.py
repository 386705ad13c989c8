"""Read dense layers and transitions as what lean paths can run, or say which part they cannot.

They are read before every forward pass, so that here and there a loop or a look-up is spelled out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from gaslayers._typing import MemoryEfficient
from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.blocks.dense_layer import DenseBottleneck, DenseLayer
from gaslayers.blocks.depthwise_conv_norm_act import DepthwiseConvNormAct
from gaslayers.blocks.depthwise_inception import DepthwiseInceptionBlock
from gaslayers.blocks.inception import InceptionBlock
from gaslayers.lean.activations import negative_slope
from gaslayers.lean.batch_norm import BatchNormCall, is_batch_norm, read_call
from gaslayers.lean.execution import reason_for_plain, reason_not_to_replace
from gaslayers.lean.fused.dense.branch import Branch
from gaslayers.lean.fused.dense.convolution import Convolution, LoneConvolution
from gaslayers.lean.fused.dense.features import Plan
from gaslayers.lean.fused.dense.join import join_branches
from gaslayers.lean.fused.dense.layer import Layer
from gaslayers.lean.fused.dense.norm import BatchNorm, Scaling
from gaslayers.lean.fused.dense.norm_activation import NormActivation
from gaslayers.lean.fused.dense.slots import Slot
from gaslayers.lean.modules import is_known, is_usual, parameter_of, reason_to_call

_Read = TypeVar("_Read")


class NotLeanError(Exception):
    """A part of the block that the lean path does not know; the message is the reason."""


def read_plan(
    layers: nn.ModuleList, in_channels: int, *, recompute: bool
) -> tuple[Plan, list[Tensor]]:
    """The layers as a plan, and the tensors that stand in its slots.

    Args:
        layers: The layers of the block.
        in_channels: Channels of the block's input.
        recompute: Whether inner convolutions run again rather than keep what they made.

    Raises:
        NotLeanError: Only the plain composition runs these layers right.
    """
    reader = _Reader(recompute=recompute)
    read, channels = [], in_channels
    for layer in layers:
        read.append(reader.dense_layer(layer, channels))
        channels += sum(branch.out_channels(reader.tensors) for branch in read[-1].branches)
    norms = [layer.front.batch_norm for layer in read]
    epsilons = {norm.eps for norm in norms if norm is not None}
    if len(epsilons) > 1:
        raise NotLeanError("the norms in front add different eps to the variance they share")
    return Plan(tuple(read), channels, next(iter(epsilons), None)), reader.tensors


def read_layer(
    norm: nn.Module,
    activation: nn.Module,
    convolution: nn.Module,
    channels: int,
    *,
    recompute: bool,
) -> tuple[Layer, list[Tensor]]:
    """Norm, activation and convolution as a layer, and the tensors that stand in its slots.

    Args:
        norm: The norm in front.
        activation: The activation in front.
        convolution: What reads their output.
        channels: Channels of the input.
        recompute: Whether inner convolutions run again rather than keep what they made.

    Raises:
        NotLeanError: Only the plain composition runs these layers right.
    """
    reader = _Reader(recompute=recompute)
    return reader.layer(norm, activation, convolution, channels), reader.tensors


def read_or_reason(
    read: Callable[..., _Read],
    *arguments: Any,
    replaced: Sequence[nn.Module],
    memory_efficient: MemoryEfficient,
) -> _Read | str:
    """What `read_plan` or `read_layer` makes of its arguments, or the reason for the plain path.

    Args:
        read: One of the two.
        *arguments: Its own, but for ``recompute``.
        replaced: The inner modules that the lean path does not call.
        memory_efficient: The block's own setting.
    """
    reason = (
        reason_for_plain((), memory_efficient=bool(memory_efficient)) or reason_not_to_replace()
    )
    if reason is not None:
        return reason
    try:
        found = read(*arguments, recompute=memory_efficient == "recompute")
    except NotLeanError as error:
        return str(error)
    # Behind the others, which name what is foreign about a layer.
    return reason_to_call(replaced) or found


def _require(holds: bool, module: object, what: str) -> None:  # noqa: FBT001  (as in `assert`)
    if not holds:
        raise NotLeanError(f"{type(module).__name__} {what}")


class _Unit(NamedTuple):
    """A convolution, the zeros put at the bottom and right before it, and what follows it."""

    convolution: nn.Module
    extra_padding: int = 0
    norm: nn.Module = nn.Identity()
    activation: nn.Module = nn.Identity()
    activation_first: bool = False


def _units(module: Any) -> list[_Unit]:
    """The convolutions of a layer or of one of its branches, in order."""
    kind = type(module)
    if kind in (nn.Sequential, DepthwiseConvNormAct):
        return [unit for child in module._modules.values() for unit in _units(child)]
    if kind is DenseBottleneck:
        parts = module._modules
        between = parts["norm"], parts["activation"]
        return [_Unit(parts["reduce"], 0, *between), _Unit(parts["conv"])]
    if kind is ConvNormAct:
        parts, activation_first = module._modules, module.order == "act_norm"
        return [
            _Unit(
                parts["conv"],
                module.extra_padding,
                parts["norm"],
                parts["activation"],
                activation_first,
            )
        ]
    return [_Unit(module)]


class _Reader:
    """Turns modules into parts of a plan and collects their tensors."""

    def __init__(self, *, recompute: bool) -> None:
        self.recompute = recompute
        self.tensors: list[Tensor] = []
        self.calls: list[BatchNormCall] = []
        """Those of the norms so far that take the batch's statistics."""
        self.evaluating: list[BatchNormCall] = []
        """Those of the others."""

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _slot(self, tensor: Tensor | None) -> Slot:
        return None if tensor is None else self._add(tensor)

    def dense_layer(self, layer: Any, channels: int) -> Layer:
        _require(type(layer) is DenseLayer, layer, "is no DenseLayer")
        parts = layer._modules
        dropout = parts["dropout"]
        off = type(dropout) is nn.Identity or (
            type(dropout) is nn.Dropout and (dropout.p == 0 or not dropout.training)
        )
        _require(off, dropout, "is active")
        return self.layer(parts["norm"], parts["activation"], parts["conv"], channels)

    def layer(
        self, norm: nn.Module, activation: nn.Module, convolution: Any, channels: int
    ) -> Layer:
        call_count, evaluating_count = len(self.calls), len(self.evaluating)
        front = self._norm_activation(norm, activation, channels)
        # The changed features would be handed on.
        in_place = getattr(activation, "inplace", False) and front.norm is None
        _require(not in_place, activation, "changes in place what others read")
        if type(convolution) in (InceptionBlock, DepthwiseInceptionBlock):
            branches = [self._branch(branch, channels) for branch in convolution.branches]
            joined = convolution.memory_efficient and join_branches(branches, self.tensors)
            branches = [joined] if joined else branches
        else:
            branches = [self._branch(convolution, channels)]
        calls, evaluating = self.calls[call_count:], self.evaluating[evaluating_count:]
        return Layer(channels, front, tuple(branches), tuple(calls), tuple(evaluating))

    def _branch(self, module: nn.Module, channels: int) -> Branch:
        convolutions: list[Convolution] = []
        following: list[NormActivation] = []
        for unit in _units(module):
            convolutions.append(self._convolution(unit, channels))
            channels = convolutions[-1].out_channels(self.tensors)
            following.append(
                self._norm_activation(
                    unit.norm, unit.activation, channels, activation_first=unit.activation_first
                )
            )
        return Branch(tuple(convolutions), tuple(following), self.recompute)

    def _convolution(self, unit: _Unit, channels: int) -> LoneConvolution:
        convolution: Any = unit.convolution
        _require(type(convolution) is nn.Conv2d, convolution, "is no plain Conv2d")
        weight: Any = parameter_of(convolution, "weight")
        is_whole = is_usual(convolution) and isinstance(weight, Tensor)
        _require(is_whole, convolution, "has been set up otherwise than by PyTorch")
        dilation, padding = convolution.dilation, convolution.padding
        _, group_channels, height, width = weight.shape
        reads = group_channels * convolution.groups
        if reads != channels:
            raise NotLeanError(
                f"{type(convolution).__name__} reads {reads} channels where {channels} come"
            )
        zeros = convolution.padding_mode == "zeros" and not isinstance(padding, str)
        _require(zeros, convolution, "pads with more than zeros or by name")
        keeps_size = (
            convolution.stride == (1, 1)
            and 2 * padding[0] + unit.extra_padding == dilation[0] * (height - 1)
            and 2 * padding[1] + unit.extra_padding == dilation[1] * (width - 1)
        )
        _require(keeps_size, convolution, "changes height or width")
        return LoneConvolution(
            padding,
            dilation,
            convolution.groups,
            unit.extra_padding,
            self._add(weight),
            self._slot(parameter_of(convolution, "bias")),
        )

    def _norm_activation(
        self,
        norm: nn.Module,
        activation: nn.Module,
        channels: int,
        *,
        activation_first: bool = False,
    ) -> NormActivation:
        slope = negative_slope(activation)
        if slope is None:
            raise NotLeanError(f"{type(activation).__name__} cannot be undone from its output")
        return NormActivation(self._norm(norm, channels), slope, activation_first)

    def _norm(self, norm: Any, channels: int) -> BatchNorm | Scaling | None:
        if type(norm) is nn.Identity:
            return None
        if not is_batch_norm(norm):
            return self._scaling(norm, channels)
        if norm.num_features != channels:
            raise NotLeanError(f"{type(norm).__name__} does not read the {channels} channels")
        call = read_call(norm)
        mean, variance = None, None
        if call.training:
            self.calls.append(call)
        else:
            # Later batches may move the running statistics before this one's backward pass.
            mean, variance = self._copy_of(call.running_mean), self._copy_of(call.running_var)
            self.evaluating.append(call)
        return BatchNorm(call, self._slot(call.weight), self._slot(call.bias), mean, variance)

    def _copy_of(self, statistics: Tensor | None) -> Slot:
        return None if statistics is None else self._add(statistics.clone())

    def _scaling(self, norm: Any, channels: int) -> Scaling:
        # A norm that only multiplies each channel by a constant tells which.
        is_scaling = is_known(type(norm)) and hasattr(norm, "channel_scale")
        _require(is_scaling, norm, "is no BatchNorm2d")
        scale = norm.channel_scale()
        fixed = scale.shape == (channels,) and not scale.requires_grad
        _require(fixed, norm, "has a scale that is trained or of another size")
        return Scaling(self._add(scale))
