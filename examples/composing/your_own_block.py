"""
A block of your own, checked
============================

Anything that maps feature maps to feature maps and has an ``out_channels`` goes between the
blocks of this library. The battery of tests that they pass is public:
:func:`gaslayers.testing.check_block` runs it on any module.
"""

# %%
# A blur before the pooling
# -------------------------
#
# Strided pooling aliases. This block smooths its input with a fixed 3x3 kernel first; it has no
# parameters and is used as the ``pool_layer`` of a stage.

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaslayers import DownBlock
from gaslayers.testing import ContractError, check_block


class BlurPool(nn.Module):
    """Smooth each channel by (1, 2, 1) in both directions, then keep every second pixel."""

    kernel: Tensor

    def __init__(self, kernel_size: int = 2) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))."""
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(x, kernel, stride=self.kernel_size, padding=1, groups=x.shape[1])


stage = DownBlock(3, 8, pool_layer=BlurPool)
print(tuple(stage(torch.zeros(2, 3, 28, 28)).shape))
print(stage.execution)

# %%
# No lean path knows this pooling, so the stage runs plain by itself, and says so. Nothing breaks;
# only the saving is gone.

ramp = (torch.arange(32)[:, None] + torch.arange(32)[None]) % 4 < 2
pooled = {
    "input": ramp.float()[None, None],
    "max pool": F.max_pool2d(ramp.float()[None, None], 2),
    "blur pool": BlurPool()(ramp.float()[None, None]),
}
fig, axes = plt.subplots(1, 3, figsize=(5.2, 2.2))
fig.suptitle("Diagonal stripes under two poolings", fontsize=10.5)
for ax, (name, picture) in zip(axes, pooled.items(), strict=True):
    ax.imshow(picture[0, 0], cmap="cividis", vmin=0, vmax=1)
    ax.set(title=name, xticks=[], yticks=[])
    ax.grid(visible=False)

# %%
# The battery
# -----------
#
# Shapes, gradients to second order, state dict, pickle, copies, compilation, memory formats,
# documented errors. It raises at the first promise that is broken, and names it.

try:
    check_block(stage)
except ContractError as error:
    print(error)
else:
    print("every check passed")

# %%
# A block that looks right and is not: its gate reads the whole batch, so that what a sample gets
# depends on its neighbours, in evaluation too.


class BatchGate(nn.Module):
    """Scale the features by how strong they are in this batch."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = self.out_channels = in_channels

    def extra_repr(self) -> str:
        """The arguments of the constructor call."""
        return f"{self.in_channels}"

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"BatchGate: `x` must have {self.in_channels} channels, got {tuple(x.shape)}."
            )
        return x * x.mean(dim=(0, 2, 3), keepdim=True).sigmoid()


try:
    check_block(BatchGate(3), namespace={"BatchGate": BatchGate})
except ContractError as error:
    print(error)
