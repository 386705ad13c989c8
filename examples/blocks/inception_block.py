"""
The Inception block
===================

:class:`~gaslayers.InceptionBlock` reads its input with several kernel sizes at once and puts the
results side by side. A discriminator can so judge strokes of different widths in one stage, and the
small kernels make the stage cheaper than one large convolution of the same width.
"""

# %%
# One branch a kernel size
# ------------------------
#
# .. block-diagram:: InceptionBlock(32, 64, kernel_sizes=(1, 3, 5))
#    :shape: 32 32 28 28
#
# The output channels are split evenly unless ``branch_channels`` says otherwise; whatever is left
# over goes to the first branches.

from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import nn

from gaslayers import ConvNormAct, InceptionBlock, count, saved_bytes

torch.manual_seed(0)
block = InceptionBlock(32, 64, kernel_sizes=(1, 3, 5))
print(block.branch_widths, "channels from the branches,", block.out_channels, "in all")

# %%
# What a pixel sees
# -----------------
#
# Feed one bright pixel and look at where each branch answers: a 1x1 sees the pixel alone, the
# others a neighbourhood as large as their kernel.

eye = InceptionBlock(1, 24, kernel_sizes=(1, 3, 5), bias=False)
impulse = torch.zeros(1, 1, 9, 9)
impulse[..., 4, 4] = 1.0
with torch.no_grad():
    answers = eye(impulse)[0].split(eye.branch_widths)

fig, axes = plt.subplots(1, 3, figsize=(5.2, 2.3), sharey=True)
fig.suptitle("Mean answer to one pixel, by branch", fontsize=10.5)
for ax, size, answer in zip(axes, eye.kernel_sizes, answers, strict=True):
    ax.imshow(answer.abs().mean(dim=0), cmap="cividis")
    ax.set(title=f"{size}x{size}", xticks=[], yticks=[])
    ax.grid(visible=False)

# %%
# Cheaper than one convolution
# ----------------------------
#
# Against a plain 3x3 of the same width: half of the channels come from a 1x1, which costs a ninth.
# ``bottleneck=True`` puts another 1x1 in front of each larger kernel, as Inception's authors drew
# it; ``bottleneck=False`` lets the kernels read the input themselves.

x = torch.zeros(32, 64, 14, 14)
candidates = {
    "3x3": ConvNormAct(64, 128),
    "(1, 3)": InceptionBlock(64, 128, bottleneck=False),
    "1x1, (1, 3)": InceptionBlock(64, 128),
    "1x1, (1, 3, 5)": InceptionBlock(64, 128, kernel_sizes=(1, 3, 5)),
}
reports = {name: count(module, x) for name, module in candidates.items()}
for name, report in reports.items():
    macs = report.per_sample.macs
    print(f"{name:>15}  {report.params:7,} parameters  {macs:12,} MACs per sample")

# %%
# A count shows itself as a table, with a row for each part of the block.

reports["1x1, (1, 3)"]

# %%
# Composed, when that is free
# ---------------------------
#
# Between the 1x1 and the k x k behind it stands no activation, so the two are one linear map: a
# single k x k convolution whose kernel is the product of theirs,
#
# .. math::
#    W_{oi}(u, v) = \sum_m W^{(k)}_{om}(u, v) \, W^{(1)}_{mi}.
#
# Run as one, the map in the middle is never made and never kept. Composing pays where the input has
# few channels; elsewhere it would cost operations. The block decides by a cost model, from the
# shapes, and says so.

pixels = torch.zeros(32, 3, 64, 64, requires_grad=True)
for channels in (3, 64, 256):
    candidate = InceptionBlock(channels, 64)
    print(f"{channels:4} channels: {candidate.execution.path}")

kept = {
    "plain": saved_bytes(InceptionBlock(3, 64, memory_efficient=False), pixels),
    "lean": saved_bytes(InceptionBlock(3, 64), pixels),
}
fig, ax = plt.subplots(figsize=(5.2, 2.2))
bars = ax.barh(list(kept), [size / 2**20 for size in kept.values()], color=["C1", "C0"])
ax.bar_label(bars, fmt="%.1f", padding=3)
ax.margins(x=0.12)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Kept for backward, 3 → 64 channels at 64 x 64, batch 32", xlabel="MiB")

# %%
# Norms and activations
# ---------------------
#
# Factories are called once per layer. With an activation inside there is nothing to compose, and
# the block runs its branches as they are.

active = InceptionBlock(
    3, 64, norm_layer=nn.BatchNorm2d, activation_layer=partial(nn.LeakyReLU, 0.2)
)
print(active)
print(active.execution)
