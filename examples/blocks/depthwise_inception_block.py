"""
The depthwise Inception block
=============================

:class:`~gaslayers.DepthwiseInceptionBlock` joins two ideas: branches of several kernel sizes, and
separable convolutions inside them. It is the block with which the study of 2018 saw its
discriminators break. Here is what it does, and what it really costs.
"""

# %%
# Branches, the larger ones separable
# -----------------------------------
#
# .. block-diagram:: DepthwiseInceptionBlock(32, 64)
#    :shape: 32 32 28 28

import matplotlib.pyplot as plt
import torch
from torch import nn

from gaslayers import ConvNormAct, DepthwiseInceptionBlock, InceptionBlock, saved_bytes

torch.manual_seed(0)
block = DepthwiseInceptionBlock(32, 64)
print(tuple(block(torch.zeros(8, 32, 28, 28)).shape), block.branch_widths)

# %%
# ``width_multiplier`` says how many times wider than its 1x1 a separable branch comes out. With 4,
# as the source of 2018 had it, the 3x3 branch gets four of every five output channels.

wide = DepthwiseInceptionBlock(32, 160, width_multiplier=4.0)
print(wide.branch_widths)

# %%
# Fewer operations than any sibling
# ---------------------------------

candidates = {
    "3x3 convolution": ConvNormAct(64, 128),
    "Inception": InceptionBlock(64, 128),
    "depthwise Inception": DepthwiseInceptionBlock(64, 128),
}
macs = {name: module.expected_macs(14, 14) / 1e6 for name, module in candidates.items()}
params = {name: module.expected_params() / 1e3 for name, module in candidates.items()}

fig, axes = plt.subplots(2, 1, figsize=(5.2, 4.2))
for ax, costs, unit, title in (
    (axes[0], macs, "million", "Multiply-adds of one 14 x 14 sample"),
    (axes[1], params, "thousand", "Trainable parameters"),
):
    bars = ax.barh(list(costs), list(costs.values()), color=["C0", "C1", "C2"])
    ax.bar_label(bars, fmt="%.1f", padding=3)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(title=title, xlabel=unit)

# %%
# And more bytes, unless they are computed again
# ----------------------------------------------
#
# What a GPU runs out of in training are the feature maps kept for the backward pass. A chain of
# small steps makes many of them: with norms and activations the block keeps more than the plain
# convolution does. The default lean path computes again what a cost model calls cheap, which here
# is nothing. ``memory_efficient="recompute"`` keeps the block's input and computes the rest again,
# at the price of running its convolutions twice. Here are 64 channels going to 128 at 14 x 14.

x = torch.zeros(32, 64, 14, 14, requires_grad=True)
options = {"norm_layer": nn.BatchNorm2d, "activation_layer": nn.ReLU}
inner = {"inner_norm_layer": nn.BatchNorm2d, "inner_activation_layer": nn.ReLU}
kept = {
    "3x3 convolution": ConvNormAct(64, 128, **options),
    "depthwise Inception, plain": DepthwiseInceptionBlock(
        64, 128, memory_efficient=False, **options, **inner
    ),
    "depthwise Inception, lean": DepthwiseInceptionBlock(64, 128, **options, **inner),
    "depthwise Inception, recompute": DepthwiseInceptionBlock(
        64, 128, memory_efficient="recompute", **options, **inner
    ),
}
mebibytes = {name: saved_bytes(module, x) / 2**20 for name, module in kept.items()}

fig, ax = plt.subplots(figsize=(5.2, 2.8))
bars = ax.barh(list(mebibytes), list(mebibytes.values()), color=["C0", "C1", "C2", "C3"])
ax.bar_label(bars, fmt="%.1f", padding=3)
ax.margins(x=0.15)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Kept for backward, batch 32", xlabel="MiB")

# %%
# The two paths are the same function. From one state and one input, outputs and gradients agree to
# rounding:

plain, lean = kept["depthwise Inception, plain"], kept["depthwise Inception, recompute"]
lean.load_state_dict(plain.state_dict())
gradients = []
for module in (plain, lean):
    noise = torch.randn(32, 64, 14, 14, generator=torch.Generator().manual_seed(1))
    noise.requires_grad_()
    module(noise).square().mean().backward()
    gradients.append(noise.grad)
print(
    f"largest difference of the input's gradient: {(gradients[0] - gradients[1]).abs().max():.1e}"
)
