"""Networks drawn from operators of every family, in place and not, with parts shared and frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

CHANNELS = 4
SIZE = 8


class Call(nn.Module):
    """A function of maps as a layer."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *maps: Tensor) -> Tensor:
        return self.function(*maps)


class Scaled(nn.Module):
    """A convolution of equalised learning rate, without and with a bias that is added in place."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS, 3, 3))
        self.bias = nn.Parameter(torch.randn(CHANNELS, 1, 1))
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.weight * 0.2, padding=1)
        return y.add_(self.bias) if self.in_place else y + self.bias


class Attention(nn.Module):
    """Self-attention over pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Conv2d(CHANNELS, 3 * CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.all(x).flatten(2).transpose(1, 2).chunk(3, dim=2)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + y.transpose(1, 2).reshape(x.shape)


class Cubed(torch.autograd.Function):
    """A user's own function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x.square() * grad


def _conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, options.pop("kernel_size", 3), **options)


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(SIZE, SIZE))


def _bilinear(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(SIZE, SIZE), mode="bilinear")


def _standard_deviation(x: Tensor) -> Tensor:
    """As in the minibatch standard deviation layer."""
    spread = (x - x.mean(0)).square().mean(0).add(1e-8).sqrt().mean((0, 1, 2))
    return x * 0.5 + spread


def _blurred(x: Tensor) -> Tensor:
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = (line[:, None] * line / 64).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (1, 2, 1, 2)), kernel, groups=x.shape[1])


def _part_zeroed(x: Tensor) -> Tensor:
    y = x * 1.5
    y[:, :1].mul_(0.5)
    return y


def _layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: _conv(padding=1),
    "frozen conv": lambda: _frozen(_conv(padding=1)),
    "1x1": lambda: _conv(kernel_size=1, bias=False),
    "grouped": lambda: _conv(padding=1, groups=2),
    "frozen depthwise": lambda: _frozen(_conv(padding=1, groups=CHANNELS)),
    "transposed": lambda: nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, padding=1),
    "frozen transposed": lambda: _frozen(nn.ConvTranspose2d(CHANNELS, CHANNELS, 3, padding=1)),
    "spectral": lambda: parametrizations.spectral_norm(_conv(padding=1)),
    "old spectral": lambda: nn.utils.spectral_norm(_conv(padding=1)),
    "weight norm": lambda: parametrizations.weight_norm(_conv(padding=1)),
    "scaled": lambda: Scaled(in_place=False),
    "scaled in place": lambda: Scaled(in_place=True),
    "linear": lambda: nn.Linear(SIZE, SIZE),
    "frozen linear": lambda: _frozen(nn.Linear(SIZE, SIZE)),
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.2),
    "leaky in place": lambda: nn.LeakyReLU(0.2, inplace=True),
    "flat": lambda: nn.LeakyReLU(0.0),
    "prelu": lambda: nn.PReLU(CHANNELS),
    "elu": nn.ELU,
    "elu in place": lambda: nn.ELU(inplace=True),
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "silu in place": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "tanh in place": lambda: Call(torch.tanh_),
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.7),
    "hardtanh in place": lambda: nn.Hardtanh(-0.5, 0.7, inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "clamp": lambda: Call(lambda x: x.clamp(-0.4, 0.6)),
    "clamp in place": lambda: Call(lambda x: x.clamp_(min=-0.4)),
    "clamp above": lambda: Call(lambda x: torch.clamp(x, max=0.4)),
    "batch norm": lambda: nn.BatchNorm2d(CHANNELS),
    "batch norm without affine": lambda: nn.BatchNorm2d(CHANNELS, affine=False),
    "evaluated": lambda: nn.BatchNorm2d(CHANNELS).eval(),
    "frozen evaluated": lambda: _frozen(nn.BatchNorm2d(CHANNELS).eval()),
    "frozen norm": lambda: _frozen(nn.BatchNorm2d(CHANNELS)),
    "cumulative norm": lambda: nn.BatchNorm2d(CHANNELS, momentum=None),
    "untracked norm": lambda: nn.BatchNorm2d(CHANNELS, track_running_stats=False),
    "instance norm": lambda: nn.InstanceNorm2d(CHANNELS),
    "affine instance norm": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "tracked instance norm": lambda: nn.InstanceNorm2d(CHANNELS, track_running_stats=True),
    "group norm": lambda: nn.GroupNorm(2, CHANNELS),
    "layer norm": lambda: Call(_layer_norm),
    "rms norm": lambda: nn.RMSNorm(SIZE),
    "local response": lambda: nn.LocalResponseNorm(2),
    "max": lambda: Call(lambda x: _up(F.max_pool2d(x, 2))),
    "max of three": lambda: nn.MaxPool2d(3, 1, 1),
    "dilated max": lambda: nn.MaxPool2d(3, 1, 1, dilation=1),
    "uneven max": lambda: Call(lambda x: _up(F.max_pool2d(x, (3, 2), (2, 1), (1, 0), 1, True))),
    "adaptive max": lambda: Call(lambda x: _up(F.adaptive_max_pool2d(x, (3, 5)))),
    "mean": lambda: Call(lambda x: _bilinear(F.avg_pool2d(x, 2))),
    "adaptive mean": lambda: Call(lambda x: _up(F.adaptive_avg_pool2d(x, 3))),
    "power mean": lambda: Call(lambda x: _up(F.lp_pool2d(x.square(), 2, 2))),
    "unpadded": lambda: Call(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 2:]),
    "bilinear": lambda: Call(lambda x: _bilinear(F.interpolate(x, scale_factor=0.5))),
    "shuffled": lambda: Call(lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2)),
    "turned": lambda: Call(lambda x: x.transpose(2, 3).contiguous().permute(0, 1, 3, 2)),
    "flat and back": lambda: Call(lambda x: x.flatten(1).unflatten(1, x.shape[1:])),
    "halves": lambda: Call(lambda x: torch.cat(x.chunk(2, dim=1)[::-1], dim=1)),
    "reshaped": lambda: Call(lambda x: x.reshape(x.shape[0], -1).view_as(x)),
    "half a map": lambda: Call(lambda x: x * 0.5),
    "shifted": lambda: Call(lambda x: 1.0 - x),
    "magnitude": lambda: Call(torch.abs),
    "square": lambda: Call(lambda x: x.square() / 2),
    "root": lambda: Call(lambda x: (x.abs() + 0.1).sqrt()),
    "blur": lambda: Call(_blurred),
    "spread": lambda: Call(_standard_deviation),
    "part in place": lambda: Call(_part_zeroed),
    "dropout": lambda: nn.Dropout(0.3),
    "dropout in place": lambda: nn.Dropout(0.3, inplace=True),
    "no dropout": lambda: nn.Dropout(0.0),
    "channel dropout": lambda: nn.Dropout2d(0.3),
    "attention": Attention,
    "sine": lambda: Call(torch.sin),
    "sums": lambda: Call(lambda x: x.cumsum(3) / SIZE),
    "own function": lambda: Call(Cubed.apply),
}
"""Layers that keep the shape of a map."""

JOINS: dict[str, Callable[[], nn.Module]] = {
    "sum": lambda: Call(torch.add),
    "sum in place": lambda: Call(lambda x, y: x.add_(y)),
    "difference": lambda: Call(lambda x, y: x - 0.5 * y),
    "product": lambda: Call(torch.mul),
    "quotient": lambda: Call(lambda x, y: x / (y.square() + 1)),
    "weighted": lambda: Call(lambda x, y: torch.lerp(x, y, 0.3)),
    "joined": lambda: Call(lambda x, y: torch.cat([x, y], dim=1)[:, ::2]),
    "larger": lambda: Call(torch.maximum),
}
"""Layers that make one map of two."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer and the maps that it reads, each counted from the last one back."""

    layer: str
    reads: tuple[int, ...]
    again: int | None = None
    """Use the layer of that step once more in its place."""


class Network(nn.Module):
    """Layers in a row, each of which reads maps that are there already."""

    def __init__(self, steps: tuple[Step, ...], outputs: int) -> None:
        super().__init__()
        self.steps, self.outputs = steps, outputs
        self.first = nn.Conv2d(CHANNELS, CHANNELS, 1)
        layers: list[nn.Module] = []
        for step in steps:
            if step.again is not None and steps[step.again].layer == step.layer:
                layers.append(layers[step.again])
            else:
                layers.append((LAYERS | JOINS)[step.layer]())
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.first(x)]
        for step, layer in zip(self.steps, self.layers, strict=True):
            read = [maps[max(-len(maps), -1 - back)] for back in step.reads]
            maps.append(layer(*read))
        return maps[-self.outputs :]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Makes one network, the same at each call."""

    steps: tuple[Step, ...]
    outputs: int
    frozen: str

    def __call__(self) -> Network:
        torch.manual_seed(1)
        network = Network(self.steps, self.outputs)
        for place, parameter in enumerate(network.parameters()):
            if self.frozen == "all" or (self.frozen == "some" and place % 2):
                parameter.requires_grad_(False)
        return network


@st.composite
def networks(
    draw: st.DrawFn, layers: Sequence[str] = tuple(LAYERS), joins: Sequence[str] = tuple(JOINS)
) -> Drawn:
    """Networks of up to eight of these layers."""
    steps: list[Step] = []
    for place in range(draw(st.integers(1, 8))):
        if draw(st.integers(0, 3)):
            name, count = draw(st.sampled_from(layers)), 1
        else:
            name, count = draw(st.sampled_from(joins)), 2
        # The last map most often, as in most networks.
        back = st.sampled_from([0, 0, 0, 1, 2, 4])
        reads = tuple(draw(back) for _ in range(count))
        again = draw(st.integers(0, place - 1)) if place and draw(st.integers(0, 5)) == 0 else None
        steps.append(Step(name, reads, again))
    frozen = draw(st.sampled_from(["none", "none", "all", "some"]))
    return Drawn(tuple(steps), draw(st.integers(1, 2)), frozen)
