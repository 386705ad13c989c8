"""Networks that people train beside a generator, from the papers, as their authors run them.

In-place activations are where the authors' own code has them. Widths and depths are those of the
papers at the image size that is given, or of the smaller ones that fit a benchmark on a CPU.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


def dcgan(width: int = 64) -> nn.Sequential:
    """Radford et al. 2016, 64 px: strided convolutions, batch norm, LeakyReLU in place."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
    ]
    for channels in (width, 2 * width, 4 * width):
        layers += [
            nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.LeakyReLU(0.2, inplace=True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False), nn.Flatten())


def patchgan(norm: Callable[[int], nn.Module], width: int = 64) -> nn.Sequential:
    """Isola et al. 2017: three strided stages, one of stride 1, and a score a patch."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    channels = width
    for stride in (2, 2, 1):
        layers += [
            nn.Conv2d(channels, 2 * channels, 4, stride, 1),
            norm(2 * channels),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        channels *= 2
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, 1, 1))


def _spectral(*sizes: int, **options: Any) -> nn.Module:
    return parametrizations.spectral_norm(nn.Conv2d(*sizes, **options))


class _ResidualDown(nn.Module):
    """ReLU, convolution, ReLU, convolution, and a mean of 2x2, beside a 1x1."""

    def __init__(self, in_channels: int, out_channels: int, *, down: bool, first: bool) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = _spectral(in_channels, out_channels, 3, padding=1)
        self.conv2 = _spectral(out_channels, out_channels, 3, padding=1)
        self.skip = None
        if down or in_channels != out_channels:
            self.skip = _spectral(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x if self.first else F.relu(x))
        h = self.conv2(F.relu(h))
        if self.down:
            h = F.avg_pool2d(h, 2)
        if self.skip is None:
            return h + x
        if self.first:
            return h + self.skip(F.avg_pool2d(x, 2))
        skip = self.skip(x)
        return h + (F.avg_pool2d(skip, 2) if self.down else skip)


class SNResNet(nn.Module):
    """Miyato et al. 2018, 32 px: residual blocks with spectral norm and average pooling."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        downs = (True, True, False, False)
        self.blocks = nn.Sequential(
            *(
                _ResidualDown(width if i else 3, width, down=down, first=i == 0)
                for i, down in enumerate(downs)
            )
        )
        self.score = parametrizations.spectral_norm(nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.score(F.relu(self.blocks(x)).sum((2, 3)))


class _Period(nn.Module):
    """Kong et al. 2020 (HiFi-GAN): a waveform folded to (frames, period), kernels of (5, 1)."""

    def __init__(self, period: int, width: int = 32) -> None:
        super().__init__()
        self.period = period
        sizes = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
        self.convs = nn.ModuleList(
            parametrizations.weight_norm(
                nn.Conv2d(a, b, (5, 1), (3 if i < 4 else 1, 1), padding=(2, 0))
            )
            for i, (a, b) in enumerate(itertools.pairwise(sizes))
        )
        self.score = parametrizations.weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, x: Tensor) -> list[Tensor]:
        batch, channels, time = x.shape
        if time % self.period:
            x = F.pad(x, (0, self.period - time % self.period), "reflect")
        x = x.view(batch, channels, -1, self.period)
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            features.append(x)
        features.append(self.score(x))
        return features


class _Scale(nn.Module):
    """Kumar et al. 2019, Kong et al. 2020: grouped convolutions on a waveform."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w = width
        layers = [
            (1, w, 15, 1, 1, 7), (w, w, 41, 2, 4, 20), (w, 2 * w, 41, 2, 16, 20),
            (2 * w, 4 * w, 41, 4, 16, 20), (4 * w, 8 * w, 41, 4, 16, 20),
            (8 * w, 8 * w, 41, 1, 16, 20), (8 * w, 8 * w, 5, 1, 1, 2),
        ]  # fmt: skip
        self.convs = nn.ModuleList(
            parametrizations.weight_norm(nn.Conv1d(a, b, k, s, p, groups=g))
            for a, b, k, s, g, p in layers
        )
        self.score = parametrizations.weight_norm(nn.Conv1d(8 * w, 1, 3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            features.append(x)
        features.append(self.score(x))
        return features


class PeriodAndScale(nn.Module):
    """HiFi-GAN's two families side by side; gives all feature maps, the scores last."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([*(_Period(p) for p in (2, 3, 5)), _Scale(), _Scale()])
        self.pool = nn.AvgPool1d(4, 2, 2)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        scaled = self.pool(x)
        return [part(scaled if i == 4 else x) for i, part in enumerate(self.parts)]


class UNet(nn.Module):
    """Wang et al. 2021 (Real-ESRGAN): spectral norm, LeakyReLU in place, bilinear, skips."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w = width
        self.conv0 = nn.Conv2d(3, w, 3, 1, 1)
        self.downs = nn.ModuleList(
            _spectral(a, 2 * a, kernel_size=4, stride=2, padding=1, bias=False)
            for a in (w, 2 * w, 4 * w)
        )
        self.ups = nn.ModuleList(
            _spectral(2 * a, a, kernel_size=3, padding=1, bias=False) for a in (4 * w, 2 * w, w)
        )
        self.last = nn.ModuleList(
            _spectral(w, w, kernel_size=3, padding=1, bias=False) for _ in range(2)
        )
        self.score = nn.Conv2d(w, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv0(x), 0.2, inplace=True)
        skips = []
        for down in self.downs:
            skips.append(x)
            x = F.leaky_relu(down(x), 0.2, inplace=True)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(up(x), 0.2, inplace=True) + skip
        for conv in self.last:
            x = F.leaky_relu(conv(x), 0.2, inplace=True)
        return self.score(x)


def dropout_dcgan() -> nn.Sequential:
    """As in PyTorch-GAN's DCGAN: convolution, LeakyReLU in place, Dropout2d, BN(eps 0.8)."""
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(((3, 16), (16, 32), (32, 64), (64, 128))):
        layers += [
            nn.Conv2d(a, b, 3, 2, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout2d(0.25),
            *([nn.BatchNorm2d(b, 0.8)] if index else []),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 1))


def _blur(x: Tensor, *, stride: int = 1, padding: tuple[int, int]) -> Tensor:
    """By (1, 3, 3, 1), as Karras et al. 2020 do before each stride."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = (line[:, None] * line / 64).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, padding * 2), kernel, stride=stride, groups=x.shape[1])


class _Equalised(nn.Module):
    """A convolution of equalised learning rate: bias, LeakyReLU times a gain, clamp."""

    def __init__(
        self, a: int, b: int, kernel: int, *, down: bool = False, active: bool = True,
        gain: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(b, a, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(b)) if active else None
        self.scale = 1 / math.sqrt(a * kernel**2)
        self.kernel, self.down, self.gain = kernel, down, gain

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if self.down and self.kernel > 1:
            x = F.conv2d(_blur(x, padding=(2, 2)), weight, stride=2)
        elif self.down:
            x = F.conv2d(_blur(x, stride=2, padding=(1, 1)), weight)
        else:
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        if self.bias is None:
            return x * self.gain
        x = F.leaky_relu(x + self.bias.view(1, -1, 1, 1), 0.2) * (math.sqrt(2) * self.gain)
        return x.clamp(-256, 256)


class _StyleBlock(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv0 = _Equalised(a, a, 3)
        self.conv1 = _Equalised(a, b, 3, down=True, gain=math.sqrt(0.5))
        self.skip = _Equalised(a, b, 1, down=True, active=False, gain=math.sqrt(0.5))

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip(x)
        return self.conv1(self.conv0(x)).add_(skip)


class StyleGAN2(nn.Module):
    """Karras et al. 2020, narrower: blur, residuals, minibatch standard deviation."""

    def __init__(self, size: int = 64, width: int = 64) -> None:
        super().__init__()
        self.first = _Equalised(3, width, 1)
        channels, blocks = width, []
        while size > 4:
            wider = min(2 * channels, 4 * width)
            blocks.append(_StyleBlock(channels, wider))
            channels, size = wider, size // 2
        self.blocks = nn.Sequential(*blocks)
        self.last = _Equalised(channels + 1, channels, 3)
        self.hidden = nn.Linear(channels * 16, channels)
        self.score = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.first(x))
        n, c, h, w = x.shape
        groups = x.reshape(min(4, n), -1, 1, c, h, w)
        spread = (groups - groups.mean(0)).square().mean(0).add(1e-8).sqrt().mean((2, 3, 4))
        spread = spread.reshape(-1, 1, 1, 1).repeat(min(4, n), 1, h, w)
        x = self.last(torch.cat([x, spread], dim=1))
        return self.score(F.leaky_relu(self.hidden(x.flatten(1)), 0.2))


class _R3Block(nn.Module):
    """1x1, grouped 3x3, 1x1 in a residual, bias and LeakyReLU between."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=groups, bias=False)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bias1 = nn.Parameter(torch.zeros(inner))
        self.bias2 = nn.Parameter(torch.zeros(inner))

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv1(x) + self.bias1.view(1, -1, 1, 1), 0.2)
        y = F.leaky_relu(self.conv2(y) + self.bias2.view(1, -1, 1, 1), 0.2)
        return x + self.conv3(y)


class R3GAN(nn.Module):
    """Huang et al. 2024, narrower: no norm, grouped convolutions, residuals."""

    def __init__(self, size: int = 64, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 1)]
        while size > 4:
            layers += [_R3Block(width, width // 8) for _ in range(2)]
            layers.append(_Halved())
            size //= 2
        self.layers = nn.Sequential(*layers)
        self.basis = nn.Conv2d(width, width, 4, groups=width, bias=False)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.basis(self.layers(x)).flatten(1))


class _Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _blur(x, stride=2, padding=(1, 1))


class Perceptual(nn.Module):
    """Simonyan and Zisserman 2015 (VGG-16), with the sum of its features of Zhang et al. 2018."""

    def __init__(self, *, compares: bool) -> None:
        super().__init__()
        self.compares = compares
        layers: list[nn.Module] = []
        channels = 3
        self.taps: list[int] = []
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            self.taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.ModuleList(layers[:-1] if compares else layers)

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(x.shape[0])
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if self.compares and place in self.taps:
                total = total + F.normalize(x, dim=1).square().mean((1, 2, 3))
        return total if self.compares else x


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision import models

        return getattr(models, name)(weights=None)

    return build


@dataclasses.dataclass(frozen=True)
class Client:
    """A network and what it is given.

    Args:
        build: Makes it.
        shape: Of its input, batch first.
        trained: Whether it is trained, as a discriminator is; else it is only ever frozen.
        also_frozen: Whether it has a step in which it is frozen, as that of a generator.
        is_penalised: Whether its authors train it with a gradient penalty.
    """

    build: Callable[[], nn.Module]
    shape: Sequence[int]
    trained: bool = True
    also_frozen: bool = True
    is_penalised: bool = False


CLIENTS = {
    "DCGAN, batch norm": Client(dcgan, (32, 3, 64, 64)),
    "PatchGAN, instance norm": Client(lambda: patchgan(nn.InstanceNorm2d), (4, 3, 256, 256)),
    "PatchGAN, batch norm": Client(lambda: patchgan(nn.BatchNorm2d), (4, 3, 256, 256)),
    "SN-ResNet": Client(SNResNet, (16, 3, 32, 32)),
    "period and scale": Client(PeriodAndScale, (2, 1, 8192)),
    "U-Net, spectral norm": Client(UNet, (4, 3, 128, 128), is_penalised=True),
    "LeakyReLU, Dropout2d, BN": Client(dropout_dcgan, (64, 3, 64, 64)),
    "StyleGAN2-like": Client(StyleGAN2, (4, 3, 64, 64), is_penalised=True),
    "R3GAN-like": Client(R3GAN, (4, 3, 64, 64), is_penalised=True),
    "VGG-16": Client(lambda: Perceptual(compares=False), (2, 3, 256, 256), trained=False),
    "LPIPS-like": Client(lambda: Perceptual(compares=True), (2, 3, 256, 256), trained=False),
    "resnet50": Client(_torchvision("resnet50"), (4, 3, 64, 64), also_frozen=False),
    "densenet121": Client(_torchvision("densenet121"), (4, 3, 64, 64), also_frozen=False),
}
