"""Convolution units as blocks hold them, and the steps of a chain read from them."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from gaslayers.lean.activations import known_slope, negative_slope
from gaslayers.lean.batch_norm import begin_call, is_batch_norm
from gaslayers.lean.fused.separable.step import Statistics, UnitStep
from gaslayers.lean.modules import parameter_of


class Unit(NamedTuple):
    """A unit's parts, each looked up once: modules find their attributes slowly.

    Args:
        module: The unit, which has all the others but ``weight`` and ``bias`` as attributes.
        conv: The convolution.
        norm: The norm, or an identity.
        activation: The activation, or an identity.
        order: ``"norm_act"`` or ``"act_norm"``.
        extra_padding: Zeros put at the bottom and right before the convolution.
        weight: The convolution's; None: it is no plain `torch.nn.Conv2d`.
        bias: The convolution's.
    """

    module: Any
    conv: Any
    norm: Any
    activation: nn.Module
    order: str
    extra_padding: int
    weight: Tensor | None
    bias: Tensor | None

    @property
    def is_trained(self) -> bool:
        """Whether autograd keeps what the convolution reads."""
        return any(
            tensor is not None and tensor.requires_grad for tensor in (self.weight, self.bias)
        )

    @property
    def tensors(self) -> list[Tensor | None]:
        """All that the unit computes with."""
        norm = self.norm
        if type(norm) is nn.Identity:
            return [self.weight, self.bias]
        running = norm.running_mean, norm.running_var
        return [self.weight, self.bias, norm.weight, norm.bias, *running]


def take_apart(module: Any) -> Unit:
    """The parts of a unit."""
    # The dictionaries that a module's attributes are looked up in: several times faster.
    parts = module._modules
    conv = parts["conv"]
    is_plain = type(conv) is nn.Conv2d
    return Unit(
        module,
        conv,
        parts["norm"],
        parts["activation"],
        module.order,
        module.extra_padding,
        parameter_of(conv, "weight") if is_plain else None,
        parameter_of(conv, "bias") if is_plain else None,
    )


def reason_against_step(unit: Unit) -> str | None:
    """What speaks against `read_step` for this unit; None: nothing."""
    conv, norm, activation = unit.conv, unit.norm, unit.activation
    if unit.weight is None:
        return f"{type(conv).__name__} is no plain Conv2d"
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return "the convolution's padding is no plain zeros"
    if type(norm) is not nn.Identity and not is_batch_norm(norm):
        return f"{type(norm).__name__} is no BatchNorm2d"
    if negative_slope(activation) is None:
        return f"{type(activation).__name__} cannot be undone from its output's sign"
    return None


def read_step(unit: Unit) -> tuple[UnitStep, list[Tensor | None]]:
    """The step and tensors of a unit; counts the batch in its norm, as a forward pass does."""
    conv = unit.conv
    statistics: Statistics | None = None
    tensors = [unit.weight, unit.bias, None, None, None, None]
    if type(unit.norm) is not nn.Identity:
        call = begin_call(unit.norm)
        statistics = Statistics(call.training, call.momentum, call.eps)
        tensors[2:] = call.weight, call.bias, call.running_mean, call.running_var
    step = UnitStep(
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        extra_padding=unit.extra_padding,
        slope=known_slope(unit.activation),
        norm=statistics,
        norm_first=statistics is not None and unit.order == "norm_act",
    )
    return step, tensors
