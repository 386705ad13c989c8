"""
One stage of a discriminator
============================

:class:`~gaslayers.DownBlock` is what discriminators are made of: any block, then norm, activation
and 2x2 pooling. It is also where most of a discriminator's memory goes, and where most of it can
be saved without computing anything twice.
"""

# %%
# Block, norm, activation, pooling
# --------------------------------
#
# .. block-diagram:: DownBlock(32, 64)
#    :shape: 32 32 28 28
#
# ``block`` takes any factory of ``(in_channels, out_channels)``; a 3x3 convolution is the default.

from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import nn

from gaslayers import DownBlock, InceptionBlock, saved_bytes

torch.manual_seed(0)
stage = DownBlock(32, 64)
other = DownBlock(32, 64, block=InceptionBlock, activation_layer=partial(nn.LeakyReLU, 0.2))
x = torch.randn(32, 32, 28, 28, requires_grad=True)
print(tuple(stage(x).shape), tuple(other(x).shape))

# %%
# A byte for three cells
# ----------------------
#
# For the backward pass autograd keeps the full-size map in front of the activation, the one
# behind it, and eight bytes a pooled cell for the position of the maximum. But what does the
# gradient need? For each pooled cell: *which* of the four pixels was the largest (two bits), and
# whether it was positive (one bit). ReLU and max pooling commute, so no more is needed:
#
# .. math::
#    \frac{\partial L}{\partial x_j} = \mathbb{1}[j = \operatorname{argmax}] \;
#    \mathbb{1}[x_j > 0] \; \frac{\partial L}{\partial y}.
#
# That makes five cases: one of four pixels, or none. On a CPU under Linux three cells share a byte;
# elsewhere each has its own.

settings = {"plain": False, "lean": True, "recompute": "recompute"}
norms = {"no norm": None, "batch norm": nn.BatchNorm2d}
kept = {
    norm: {
        name: saved_bytes(DownBlock(32, 64, norm_layer=layer, memory_efficient=setting), x) / 2**20
        for name, setting in settings.items()
    }
    for norm, layer in norms.items()
}

fig, ax = plt.subplots()
for offset, (norm, sizes) in enumerate(kept.items()):
    places = [place + 0.38 * (offset - 0.5) for place in range(len(sizes))]
    bars = ax.bar(places, list(sizes.values()), width=0.36, color=f"C{offset}", label=norm)
    ax.bar_label(bars, fmt="%.1f", padding=2)
ax.set_xticks(range(len(settings)), settings)
ax.grid(axis="x", visible=False)
ax.margins(y=0.1)
ax.set(title="Kept for backward, 32 → 64 at 28 x 28, batch 32", ylabel="MiB")
ax.legend()

# %%
# What remains in the lean stage without a norm is the convolution's input, which its weight
# gradient needs. A batch norm keeps its own input as well; ``memory_efficient="recompute"`` runs
# the convolution again instead, and then the two bars are level.
#
# The block says which of this it does:

for setting in settings.values():
    print(DownBlock(32, 64, memory_efficient=setting).execution)

# %%
# The same gradients, to the bit
# ------------------------------

plain = DownBlock(32, 64, memory_efficient=False)
plain.load_state_dict(stage.state_dict())
found = []
for block in (stage, plain):
    x.grad = None
    block(x).square().sum().backward()
    found.append((x.grad, block.body.conv.weight.grad))
print(all(torch.equal(lean, reference) for lean, reference in zip(*found, strict=True)))

# %%
# Frozen, for the generator's step
# --------------------------------
#
# When the generator trains, gradients only pass *through* the discriminator. Freeze it, and the
# convolutions do not keep their inputs either. Freezing a plain discriminator saves nothing:
# autograd still keeps the maps around the activation.

fig, ax = plt.subplots(figsize=(5.2, 2.4))
frozen = {
    name: saved_bytes(
        DownBlock(32, 64, norm_layer=None, memory_efficient=setting).requires_grad_(False), x
    )
    / 2**20
    for name, setting in (("plain", False), ("lean", True))
}
bars = ax.barh(list(frozen), list(frozen.values()), color=["C1", "C0"])
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.margins(x=0.14)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Kept by the same stage, frozen, no norm", xlabel="MiB")
