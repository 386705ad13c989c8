"""
Full and separable convolutions
===============================

:class:`~gaslayers.ConvNormAct` is a convolution, a norm and an activation in one unit;
:class:`~gaslayers.DepthwiseConvNormAct` splits the convolution in two: each channel on its own
first, then all channels mixed by a 1x1. The split saves multiply-adds. Whether it saves *memory* is
another question, and this page measures the answer.
"""

# %%
# Side by side
# ------------
#
# .. block-diagram:: ConvNormAct(32, 64, activation_layer=nn.ReLU)
#    :shape: 32 32 28 28
#
# .. block-diagram:: DepthwiseConvNormAct(32, 64, activation_layer=nn.ReLU)
#    :shape: 32 32 28 28
#
# Both keep height and width at stride 1, for even kernels too, and both say what they put out: no
# arithmetic is needed to feed one to the next.

import matplotlib.pyplot as plt
import torch
from torch import nn

from gaslayers import ConvNormAct, DepthwiseConvNormAct, saved_bytes

torch.manual_seed(0)
options = {"norm_layer": nn.BatchNorm2d, "activation_layer": nn.ReLU}
full = ConvNormAct(32, 64, kernel_size=3, **options)
separable = DepthwiseConvNormAct(32, 64, kernel_size=3, **options)

x = torch.randn(32, 32, 28, 28)
print("full      ", tuple(full(x).shape), full.out_channels)
print("separable ", tuple(separable(x).shape), separable.out_channels)

# %%
# What the split saves
# --------------------
#
# A pixel costs :math:`k^2 c_\text{in} c_\text{out}` multiply-adds in full and
# :math:`c_\text{in} (k^2 + c_\text{out})` split. Their ratio,
# :math:`1 / c_\text{out} + 1 / k^2`, tends to :math:`1 / k^2`: at most nine times fewer for a 3x3.
# Every block knows its closed form, so the curve needs no run.

widths = [8, 16, 32, 64, 128, 256]


def macs(unit: type[nn.Module], width: int) -> float:
    """Multiply-adds of one 28 x 28 sample, in millions."""
    return unit(width, width).expected_macs(28, 28) / 1e6


fig, ax = plt.subplots()
ax.loglog(widths, [macs(ConvNormAct, w) for w in widths], "o-", label="full 3x3")
ax.loglog(widths, [macs(DepthwiseConvNormAct, w) for w in widths], "s--", label="separable 3x3")
ax.set_xticks(widths, map(str, widths))
ax.minorticks_off()
ax.set(
    title="Multiply-adds of one sample at 28 x 28",
    xlabel="channels, in and out",
    ylabel="million multiply-adds",
)
ax.legend()

# %%
# What it costs
# -------------
#
# For the backward pass autograd keeps the input of each convolution, of each norm and of each
# activation. Splitting a convolution adds one more feature map to that list, so a separable unit
# that saves operations keeps *more* bytes when it runs as a plain composition. With
# ``memory_efficient="recompute"`` it computes those maps again in the backward pass: they are
# cheap, the depthwise step being a tiny part of the unit.

x.requires_grad_()
kept = {
    "full": ConvNormAct(32, 64, **options),
    "separable,\nplain": DepthwiseConvNormAct(32, 64, memory_efficient=False, **options),
    "separable,\nrecompute": DepthwiseConvNormAct(32, 64, memory_efficient="recompute", **options),
}
mebibytes = {name: saved_bytes(unit, x) / 2**20 for name, unit in kept.items()}

fig, ax = plt.subplots()
bars = ax.barh(list(mebibytes), list(mebibytes.values()), color=["C0", "C1", "C2"])
ax.bar_label(bars, fmt="%.1f", padding=3)
ax.margins(x=0.12)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Kept for backward, 32 samples of 28 x 28", xlabel="MiB")

# %%
# ``memory_efficient=True``, the default, only takes what costs nothing: here it says that it would
# keep no less, and runs plain. A block always tells which path it takes, and why.

for setting in (True, "recompute", False):
    unit = DepthwiseConvNormAct(32, 64, memory_efficient=setting, **options)
    print(f"{setting!s:>9}  {unit.execution}")

# %%
# A frozen convolution, as in the generator's step through a frozen discriminator, keeps nothing:
# its input is needed for the gradient of its weight alone.

bare = ConvNormAct(32, 64)
for frozen in (False, True):
    bare.requires_grad_(not frozen)
    print(f"frozen: {frozen!s:5}  {saved_bytes(bare, x) / 2**20:.2f} MiB  {bare.execution}")
