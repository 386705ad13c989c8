"""The LSGAN generator of GAS (2018)."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from gaslayers._checks import bad_value, check_choice, check_int, check_matrix
from gaslayers.blocks import ConvNormAct
from gaslayers.blocks._construction import Device, placed
from gaslayers.models.initialisation import gas2018_generator, he
from gaslayers.models.norms import OffsetBatchNorm1d, OffsetBatchNorm2d

UPSAMPLINGS = ("raw_reshape", "pixel_shuffle")


def _raw_reshape(x: Tensor) -> Tensor:
    """(N, 4 C, H, W) -> (N, C, 2 H, 2 W), by reading channels-last memory in another shape.

    Neighbouring channels and pixels are torn apart: pixel shuffle is what was meant. In
    channels-last memory both steps are views.
    """
    height, width = x.shape[2:]
    memory = rearrange(x, "n c h w -> n (h w c)")
    return rearrange(memory, "n (h w c) -> n c h w", h=2 * height, w=2 * width)


def _pixel_shuffle(x: Tensor) -> Tensor:
    """(N, 4 C, H, W) -> (N, C, 2 H, 2 W), each pixel's four groups of channels as a 2x2 patch."""
    return rearrange(x, "n (c r s) h w -> n c (h r) (w s)", r=2, s=2)


# `torch.fx` records a call of each: they read numbers off a shape.
for _name in ("rearrange", "_raw_reshape", "_pixel_shuffle"):
    torch.fx.wrap(_name)


class LSGANGenerator(nn.Module):
    """Make images in [-1, 1] from noise: linear, then 5x5 convolutions at 1/4, 1/2 and full size.

    Args:
        latent_size: Numbers in a noise vector.
        out_channels: Channels of the image.
        image_size: Height and width of the image; sizes that 4 does not divide are cropped.
        base_channels: Channels at 1/4 of the size, a multiple of 4; 128 in the original. The
            cost grows with its square.
        upsampling: ``"raw_reshape"``, the original's reading of memory in another shape, or
            ``"pixel_shuffle"``.
        variant: ``"as_coded"``: batch norm without weights and the original's init; ``"modern"``:
            batch norm with weights and He's init.
        device: Where the layers are built; None: PyTorch's default device.
        dtype: The precision of parameters and buffers; None: PyTorch's default dtype.

    Shape:
        - Input: (N, latent_size).
        - Output: (N, out_channels, image_size, image_size).

    Raises:
        TypeError: A size that is no int.
        ValueError: A size below 1, a base that 4 does not divide, an unknown upsampling or
            variant, an input of another shape.

    Note:
        Differs from the paper: the layers are GAS's (2018), not those of the LSGAN paper.
        Differs from GAS with the defaults: nothing.

    Example:
        >>> import torch
        >>> generator = LSGANGenerator()
        >>> generator(torch.zeros(2, 100)).shape
        torch.Size([2, 1, 28, 28])
        >>> sum(p.numel() for p in generator.parameters())
        1665313
    """

    def __init__(
        self,
        latent_size: int = 100,
        *,
        out_channels: int = 1,
        image_size: int = 28,
        base_channels: int = 128,
        upsampling: str = "raw_reshape",
        variant: str = "as_coded",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        latent_size = check_int(owner, "latent_size", latent_size)
        out_channels = check_int(owner, "out_channels", out_channels)
        image_size = check_int(owner, "image_size", image_size)
        base_channels = check_int(owner, "base_channels", base_channels)
        check_choice(owner, "upsampling", upsampling, UPSAMPLINGS)
        check_choice(owner, "variant", variant, ("as_coded", "modern"))
        if base_channels % 4:
            raise bad_value(owner, "base_channels", "be divisible by 4", base_channels)
        self.latent_size = latent_size
        self.out_channels = out_channels
        self.image_size = image_size
        self.base_channels = base_channels
        self.upsampling = upsampling
        self.variant = variant

        coded = variant == "as_coded"
        feature_norm = OffsetBatchNorm1d if coded else nn.BatchNorm1d
        norm_layer = OffsetBatchNorm2d if coded else nn.BatchNorm2d
        base = base_channels
        self.start_size = math.ceil(image_size / 4)
        features = self.start_size**2 * base
        sizes = {
            "latent_size": latent_size,
            "out_channels": out_channels,
            "image_size": image_size,
            "base_channels": base_channels,
        }
        with placed(owner, device, dtype, **sizes) as put:
            self.project = nn.Linear(latent_size, features)
            self.project_norm = feature_norm(features)
            self.activation = nn.ReLU()
            self.conv_quarter = self._convolution(base, 2 * base, norm_layer)
            self.conv_half = self._convolution(base // 2, base, norm_layer)
            self.conv_full = ConvNormAct(
                base // 4, out_channels, kernel_size=5, activation_layer=nn.Tanh
            )
            (gas2018_generator if coded else he)(self)
            put(self)

    @staticmethod
    def _convolution(
        in_channels: int, out_channels: int, norm_layer: type[nn.BatchNorm2d]
    ) -> ConvNormAct:
        return ConvNormAct(
            in_channels,
            out_channels,
            kernel_size=5,
            bias=True,
            norm_layer=norm_layer,
            activation_layer=nn.ReLU,
        )

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent_size) -> (N, out_channels, image_size, image_size)."""
        check_matrix(type(self).__name__, "z", z, self.latent_size)
        upsample = _raw_reshape if self.upsampling == "raw_reshape" else _pixel_shuffle
        x = self.activation(self.project_norm(self.project(z)))
        # N x base x S/4 x S/4, in channels-last memory as the original's
        x = rearrange(x, "n (h w c) -> n c h w", h=self.start_size, w=self.start_size)
        # N x base/2 x S/2 x S/2
        x = upsample(self.conv_quarter(x))
        # N x base/4 x S x S
        x = upsample(self.conv_half(x))
        # N x out_channels x S x S
        return self.conv_full(x)[..., : self.image_size, : self.image_size]

    def extra_repr(self) -> str:
        """The arguments of the constructor call."""
        return (
            f"{self.latent_size}, out_channels={self.out_channels}, "
            f"image_size={self.image_size}, base_channels={self.base_channels}, "
            f"upsampling={self.upsampling!r}, variant={self.variant!r}"
        )
