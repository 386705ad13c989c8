"""Read dense layers and transitions as what lean paths can run, or say which part they cannot.

A block is read once, and anew when something about it has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from gaslayers.blocks._block import Block
from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.blocks.dense_layer import DenseBottleneck, DenseLayer
from gaslayers.blocks.depthwise_conv_norm_act import DepthwiseConvNormAct
from gaslayers.blocks.depthwise_inception import DepthwiseInceptionBlock
from gaslayers.blocks.inception import InceptionBlock
from gaslayers.lean.activations import negative_slope
from gaslayers.lean.batch_norm import is_batch_norm
from gaslayers.lean.execution import reason_against_fusing, reason_against_lean
from gaslayers.lean.fused.dense.features import Plan
from gaslayers.lean.fused.dense.join import join_branches
from gaslayers.lean.fused.parts.branch import Branch
from gaslayers.lean.fused.parts.layer import Layer
from gaslayers.lean.fused.parts.reader import Reader
from gaslayers.lean.fused.parts.units import Unit, pads_with_zeros, take_apart, unit_of
from gaslayers.lean.modules import is_known, is_usual, modules_within, reason_against_replacing
from gaslayers.lean.snapshot import recall, remember

_Plan = TypeVar("_Plan")


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
    reader = _LayerReader(recompute=recompute)
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
    reader = _LayerReader(recompute=recompute)
    return reader.layer(norm, activation, convolution, channels), reader.tensors


def read_or_reason(
    read: Callable[..., tuple[_Plan, list[Tensor]]],
    block: Block,
    *parts: nn.Module,
    behind: nn.Module | None = None,
) -> tuple[_Plan, list[Tensor]] | str:
    """What `read_plan` or `read_layer` makes of a block, or the reason for the plain path.

    Args:
        read: One of the two.
        block: The block.
        *parts: Those of its layers that ``read`` takes.
        behind: What the lean path does not call either.
    """
    memory_efficient = block.memory_efficient
    reason = (
        reason_against_lean((), memory_efficient=bool(memory_efficient)) or reason_against_fusing()
    )
    if reason is not None:
        return reason
    given = (*parts, behind, block.in_channels, memory_efficient)
    found: tuple[_Plan, list[Tensor]] | None = recall(block, *given)
    if found is not None:
        return found
    modules = modules_within(*parts, *([] if behind is None else [behind]))
    try:
        found = read(*parts, block.in_channels, recompute=memory_efficient == "recompute")
    except NotLeanError as error:
        return str(error)
    # Behind the others, which name what is foreign about a layer.
    reason = reason_against_replacing(modules)
    if reason is not None:
        return reason
    remember(block, found, *given, modules=modules, tensors=found[1])
    return found


def _require(holds: bool, module: object, what: str) -> None:  # noqa: FBT001  (as in `assert`)
    if not holds:
        raise NotLeanError(f"{type(module).__name__} {what}")


def _units(module: Any) -> list[Unit]:
    """The convolutions of a layer or of one of its branches, in order."""
    kind = type(module)
    if kind in (nn.Sequential, DepthwiseConvNormAct):
        return [unit for child in module._modules.values() for unit in _units(child)]
    if kind is DenseBottleneck:
        parts = module._modules
        reduce = unit_of(parts["reduce"], parts["norm"], parts["activation"])
        return [reduce, unit_of(parts["conv"])]
    return [take_apart(module) if kind is ConvNormAct else unit_of(module)]


class _LayerReader(Reader):
    """Reads dense layers and what stands in for their convolution, or says what it cannot."""

    def __init__(self, *, recompute: bool) -> None:
        super().__init__(copies_running=True)
        self.recompute = recompute

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
        _check_norm_activation(norm, activation, channels)
        front = self.norm_activation(norm, activation)
        # The changed features would be handed on.
        in_place = getattr(activation, "inplace", False) and front.norm is None
        _require(not in_place, activation, "changes in place what others read")
        if type(convolution) in (InceptionBlock, DepthwiseInceptionBlock):
            branches = [self._layer_branch(branch, channels) for branch in convolution.branches]
            joined = convolution.memory_efficient and join_branches(branches, self.tensors)
            branches = [joined] if joined else branches
        else:
            branches = [self._layer_branch(convolution, channels)]
        return Layer(channels, front, tuple(branches))

    def _layer_branch(self, module: nn.Module, channels: int) -> Branch:
        units = _units(module)
        for unit in units:
            channels = _check_unit(unit, channels)
        return self.branch(units, [not self.recompute] * len(units))


def _check_unit(unit: Unit, channels: int) -> int:
    """The channels that a unit makes of so many; one that lean paths do not know is refused."""
    conv, weight = unit.conv, unit.weight
    _require(type(conv) is nn.Conv2d, conv, "is no plain Conv2d")
    if weight is None or not is_usual(conv):
        raise NotLeanError(f"{type(conv).__name__} has been set up otherwise than by PyTorch")
    made, group_channels, height, width = weight.shape
    reads = group_channels * conv.groups
    if reads != channels:
        raise NotLeanError(f"{type(conv).__name__} reads {reads} channels where {channels} come")
    _require(pads_with_zeros(conv), conv, "pads with more than zeros or by name")
    keeps_size = conv.stride == (1, 1) and unit.geometry.shrinks_by((height, width)) == (0, 0)
    _require(keeps_size, conv, "changes height or width")
    _check_norm_activation(unit.norm, unit.activation, made)
    return made


def _check_norm_activation(norm: Any, activation: nn.Module, channels: int) -> None:
    if negative_slope(activation) is None:
        raise NotLeanError(f"{type(activation).__name__} cannot be undone from its output")
    if is_batch_norm(norm):
        if norm.num_features != channels:
            raise NotLeanError(f"{type(norm).__name__} does not read the {channels} channels")
    elif type(norm) is not nn.Identity:
        # A norm that only multiplies each channel by a constant tells which.
        is_scaling = is_known(type(norm)) and hasattr(norm, "channel_scale")
        _require(is_scaling, norm, "is no BatchNorm2d")
        scale = norm.channel_scale()
        fixed = scale.shape == (channels,) and not scale.requires_grad
        _require(fixed, norm, "has a scale that is trained or of another size")
