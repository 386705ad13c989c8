"""Convolution units as blocks hold them, and what speaks against computing them otherwise."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from gaslayers.lean.activations import negative_slope
from gaslayers.lean.batch_norm import is_batch_norm
from gaslayers.lean.convolution import ConvolutionGeometry
from gaslayers.lean.modules import parameter_of


class Unit(NamedTuple):
    """A unit's parts, each looked up once: modules find their attributes slowly.

    Args:
        module: The unit, or the convolution where it is one alone.
        conv: The convolution.
        norm: The norm, or an identity.
        activation: The activation, or an identity.
        norm_first: Whether the norm precedes the activation.
        extra_padding: Zeros put at the bottom and right before the convolution.
        weight: The convolution's; None: it is no plain `torch.nn.Conv2d`.
        bias: The convolution's.
    """

    module: Any
    conv: Any
    norm: Any
    activation: nn.Module
    norm_first: bool
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
    def is_bare(self) -> bool:
        """Whether it is a convolution and nothing else."""
        return type(self.norm) is type(self.activation) is nn.Identity

    @property
    def geometry(self) -> ConvolutionGeometry:
        """How the convolution walks over its input."""
        return ConvolutionGeometry.of(self.conv, self.extra_padding)

    @property
    def tensors(self) -> list[Tensor | None]:
        """All that the unit computes with."""
        norm = self.norm
        if type(norm) is nn.Identity:
            return [self.weight, self.bias]
        running = norm.running_mean, norm.running_var
        return [self.weight, self.bias, norm.weight, norm.bias, *running]


_NOTHING = nn.Identity()


def take_apart(module: Any) -> Unit:
    """The parts of a `ConvNormAct`."""
    # The dictionaries that a module's attributes are looked up in: several times faster.
    parts = module._modules
    norm_first, extra = module.order == "norm_act", module.extra_padding
    return unit_of(parts["conv"], parts["norm"], parts["activation"], norm_first, extra, module)


def unit_of(
    conv: Any,
    norm: nn.Module = _NOTHING,
    activation: nn.Module = _NOTHING,
    norm_first: bool = True,
    extra_padding: int = 0,
    module: Any = None,
) -> Unit:
    """A unit of these parts, as of `Unit`."""
    weight = bias = None
    if type(conv) is nn.Conv2d:
        weight, bias = parameter_of(conv, "weight"), parameter_of(conv, "bias")
    return Unit(module or conv, conv, norm, activation, norm_first, extra_padding, weight, bias)


def reason_against_unit(unit: Unit) -> str | None:
    """What speaks against computing what this unit does without calling it; None: nothing."""
    conv, norm, activation = unit.conv, unit.norm, unit.activation
    if unit.weight is None:
        return f"{type(conv).__name__} is no plain Conv2d"
    if not pads_with_zeros(conv):
        return "the convolution's padding is no plain zeros"
    if type(norm) is not nn.Identity and not is_batch_norm(norm):
        return f"{type(norm).__name__} is no BatchNorm2d"
    if negative_slope(activation) is None:
        return f"{type(activation).__name__} cannot be undone from its output's sign"
    return None


def pads_with_zeros(conv: Any) -> bool:
    """Whether a `torch.nn.Conv2d` pads with zeros, by numbers."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
