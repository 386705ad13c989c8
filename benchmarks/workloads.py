"""What is measured: pieces of work, and for each the ways in which it can be run.

Every way of one piece of work computes the same from the same weights; `Way.network` is built
fresh, so that no compiled code or gradient is shared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.provenance import is_installed
from gaslayers import DenseBlock, InceptionBlock, make_lean
from gaslayers.models import CASES, VARIANTS, build_discriminator

BATCH = 32
PLAIN = "plain eager"
LEAN = "gaslayers"
RECOMPUTE = "gaslayers, recompute"
ENGINE = "make_lean on plain layers"
ENGINE_RECOMPUTE = 'make_lean on plain layers, recompute="convolutions"'
RIVAL = "torch.compile, budget 0.2"


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to run a piece of work.

    Args:
        network: Builds the module.
        budget: Compile it, with this activation memory budget; None: run it eagerly.
        needs: The package that it takes.
        hides: Whether it keeps tensors where saved-tensor hooks do not see them.
    """

    network: Callable[[], nn.Module]
    budget: float | None = None
    needs: str = "torch"
    hides: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return is_installed(self.needs)


@dataclasses.dataclass(frozen=True)
class Work:
    """One piece of work: a forward and a backward pass.

    Args:
        shape: Of the input.
        ways: The first one is what all others are compared with.
        frozen: Whether the weights are frozen and only the input gets a gradient: D's part of a G
            step. Else only the weights get one.
        quick: Whether it belongs to the short table.
        in_process: Whether the memory of a fresh process is measured, too.
        layout: Memory format of input and weights.
    """

    shape: tuple[int, int, int, int]
    ways: dict[str, Way]
    frozen: bool = False
    quick: bool = False
    in_process: bool = False
    layout: torch.memory_format = torch.channels_last


class _Checkpointed(nn.Module):
    """Each stage recomputed in the backward pass by PyTorch's checkpoint."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.network.stages:
            x = checkpoint(stage, x, use_reentrant=False)
        return self.network.classifier(x.flatten(1))


class _WithoutSigmoid(nn.Module):
    """A discriminator up to its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.stages = network.stages
        self.classifier = network.classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.stages(x).flatten(1))


def compiled(network: Callable[[], nn.Module]) -> dict[str, Way]:
    """The strongest rival: the compiler, with and without its activation memory budget."""
    return {
        "torch.compile": Way(network, budget=1.0),
        "torch.compile, budget 0.5": Way(network, budget=0.5),
        RIVAL: Way(network, budget=0.2),
    }


def engine(network: Callable[[], nn.Module]) -> dict[str, Way]:
    """The same layers, called, under the engine: what each fused function has to beat."""
    return {
        ENGINE: Way(lambda: make_lean(network())),
        ENGINE_RECOMPUTE: Way(lambda: make_lean(network(), recompute="convolutions")),
    }


def discriminator_ways(case: str, variant: str, image_size: int = 28) -> dict[str, Way]:
    """Every way to run one of the six discriminators."""

    def build(*, memory_efficient: bool | str) -> nn.Module:
        torch.manual_seed(0)
        return _WithoutSigmoid(
            build_discriminator(
                case, variant=variant, image_size=image_size, memory_efficient=memory_efficient
            )
        )

    plain, lean = (
        partial(build, memory_efficient=False),
        partial(build, memory_efficient=True),
    )
    return {
        PLAIN: Way(plain),
        "torch checkpoint": Way(lambda: _Checkpointed(plain()), hides=True),
        **compiled(plain),
        LEAN: Way(lean),
        RECOMPUTE: Way(partial(build, memory_efficient="recompute")),
        **engine(plain),
        "gaslayers + torch.compile, budget 0.2": Way(lean, budget=0.2),
    }


def dense_ways(
    in_channels: int, growth_rate: int, layers: int, factor: int | None
) -> dict[str, Way]:
    """A dense block of ours and of its peers; those of 3x3 layers know no bottleneck."""

    def ours(*, memory_efficient: bool) -> nn.Module:
        torch.manual_seed(0)
        return DenseBlock(
            in_channels,
            growth_rate,
            num_layers=layers,
            bottleneck_factor=factor,
            memory_efficient=memory_efficient,
        )

    def torchvisions(*, memory_efficient: bool) -> nn.Module:
        from torchvision.models.densenet import _DenseBlock

        torch.manual_seed(0)
        return _DenseBlock(layers, in_channels, factor, growth_rate, 0.0, memory_efficient)

    def timms(*, memory_efficient: bool) -> nn.Module:
        from timm.models.densenet import DenseBlock as TimmDenseBlock

        torch.manual_seed(0)
        return TimmDenseBlock(
            layers, in_channels, factor, growth_rate, grad_checkpointing=memory_efficient
        )

    def torchgans() -> nn.Module:
        from torchgan.layers import DenseBlock2d

        torch.manual_seed(0)
        return DenseBlock2d(
            depth=layers,
            in_channels=in_channels,
            growth_rate=growth_rate,
            block=_torchgan_layer,
            kernel=3,
            padding=1,
        )

    peers = (
        {"torchgan": Way(torchgans, needs="torchgan")}
        if factor is None
        else {
            "torchvision": Way(partial(torchvisions, memory_efficient=False), needs="torchvision"),
            "torchvision, memory_efficient": Way(
                partial(torchvisions, memory_efficient=True), needs="torchvision", hides=True
            ),
            "timm": Way(partial(timms, memory_efficient=False), needs="timm"),
            "timm, memory_efficient": Way(
                partial(timms, memory_efficient=True), needs="timm", hides=True
            ),
        }
    )
    return {
        PLAIN: Way(partial(ours, memory_efficient=False)),
        **peers,
        **compiled(partial(ours, memory_efficient=False)),
        LEAN: Way(partial(ours, memory_efficient=True)),
        **engine(partial(ours, memory_efficient=False)),
    }


def _torchgan_layer(*args: object, **options: object) -> nn.Module:
    from torchgan.layers import BasicBlock2d

    return BasicBlock2d(*args, **options)


def inception_ways(in_channels: int, out_channels: int) -> dict[str, Way]:
    """An inception block with linear 1x1 -> 3x3."""

    def ours(*, memory_efficient: bool) -> nn.Module:
        torch.manual_seed(0)
        return InceptionBlock(in_channels, out_channels, memory_efficient=memory_efficient)

    return {
        PLAIN: Way(partial(ours, memory_efficient=False)),
        **compiled(partial(ours, memory_efficient=False)),
        LEAN: Way(partial(ours, memory_efficient=True)),
        **engine(partial(ours, memory_efficient=False)),
    }


def all_work() -> dict[str, Work]:
    """Every piece of work by its title."""
    image = (BATCH, 1, 28, 28)
    works = {}
    for variant in VARIANTS:
        for case in CASES:
            ways = discriminator_ways(case, variant)
            quick = case == "original" and variant != "modern"
            works[f"{case}, {variant}: pass of D"] = Work(image, ways, quick=quick)
            works[f"{case}, {variant}: frozen pass of D"] = Work(
                image, ways, frozen=True, quick=quick
            )
    works["dense block, 64 + 12 x 32 channels, 3x3"] = Work(
        (BATCH, 64, 16, 16), dense_ways(64, 32, 12, None), quick=True
    )
    for channels, layers, size in ((64, 6, 56), (128, 12, 28), (256, 24, 14), (512, 16, 7)):
        works[f"densenet121 block, {channels} + {layers} x 32 channels at {size}"] = Work(
            (4, channels, size, size), dense_ways(channels, 32, layers, 4)
        )
    works["inception 3 -> 64 at 64"] = Work((BATCH, 3, 64, 64), inception_ways(3, 64), quick=True)
    works["inception 64 -> 128 at 32"] = Work(
        (BATCH, 64, 32, 32), inception_ways(64, 128), quick=True
    )
    for size in (64, 128, 256):
        works[f"original, as_coded at {size}: pass of D"] = Work(
            (16, 1, size, size),
            discriminator_ways("original", "as_coded", size),
            in_process=True,
        )
    return works | _contiguous(works)


def _contiguous(works: dict[str, Work]) -> dict[str, Work]:
    """Some of them in PyTorch's default memory format, in which other kernels run."""
    titles = (
        "original, as_coded: pass of D",
        "original, as_coded: frozen pass of D",
        "original, as_described: pass of D",
        "original, as_coded at 128: pass of D",
        "dense block, 64 + 12 x 32 channels, 3x3",
        "inception 3 -> 64 at 64",
    )
    return {
        f"{title}, contiguous": dataclasses.replace(
            works[title], quick=False, in_process=False, layout=torch.contiguous_format
        )
        for title in titles
    }
