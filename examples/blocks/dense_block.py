"""
Dense blocks and transitions
============================

In a :class:`~gaslayers.DenseBlock` every layer reads the input and all features made so far, and
adds a few of its own. Little is computed twice, so few parameters go far; but the plain
composition keeps each of the growing concatenations. Here they share one buffer.
"""

# %%
# Each layer adds to what is there
# --------------------------------
#
# .. block-diagram:: DenseBlock(32, 16, num_layers=3)
#    :shape: 32 32 28 28
#
# A :class:`~gaslayers.TransitionBlock` then narrows the channels and halves height and width:
#
# .. block-diagram:: TransitionBlock(80)
#    :shape: 32 80 28 28

from functools import partial

import matplotlib.pyplot as plt
import torch

from gaslayers import DenseBlock, InceptionBlock, TransitionBlock, saved_bytes

torch.manual_seed(0)
dense = DenseBlock(32, growth_rate=16, num_layers=3)
transition = TransitionBlock(dense.out_channels, compression=0.5)
x = torch.randn(32, 32, 28, 28)
features = dense(x)
print("dense      ", tuple(features.shape))
print("transition ", tuple(transition(features).shape))

# %%
# The input comes out first, unchanged; the new features follow in the order of their layers.

assert torch.equal(features[:, :32], x)

# %%
# Linear instead of quadratic
# ---------------------------
#
# With :math:`L` layers of growth :math:`k` on :math:`c` channels, the concatenations hold
# :math:`\sum_{i=1}^{L} (c + i k)` channels: their sum grows with :math:`L^2`. But the last one
# holds all the others as slices. The lean path writes each layer's features into one buffer of
# :math:`c + L k` channels, keeps that, and computes norm and activation again where the backward
# pass needs them.

depths = [1, 2, 4, 6, 8, 12]
x.requires_grad_()


def mebibytes(depth: int, *, lean: bool) -> float:
    """What a block of this many layers keeps for its backward pass."""
    return saved_bytes(DenseBlock(32, 16, num_layers=depth, memory_efficient=lean), x) / 2**20


fig, ax = plt.subplots()
ax.plot(depths, [mebibytes(depth, lean=False) for depth in depths], "o-", color="C1", label="plain")
ax.plot(depths, [mebibytes(depth, lean=True) for depth in depths], "s-", color="C0", label="lean")
ax.set(
    title="Kept for backward by a dense block, 32 + L x 16 channels",
    xlabel="layers L",
    ylabel="MiB, batch 32 at 28 x 28",
    ylim=(0, None),
)
ax.legend()

# %%
# The gradients are the plain ones. Norm statistics, too, are updated once per step: blocks that
# checkpoint a batch norm update them twice.

lean = DenseBlock(32, 16, num_layers=4)
plain = DenseBlock(32, 16, num_layers=4, memory_efficient=False)
plain.load_state_dict(lean.state_dict())
for block in (lean, plain):
    block(x).square().mean().backward()
    print(block.execution, "|", block.layers[0].norm.num_batches_tracked.item(), "update")

weights = zip(lean.parameters(), plain.parameters(), strict=True)
differences = [(a.grad - b.grad).abs().max().item() for a, b in weights]
print(f"largest difference of a gradient: {max(differences):.1e}")

# %%
# Layers of your choice
# ---------------------
#
# ``bottleneck_factor=4`` is DenseNet's bottleneck. ``layer`` takes any block that maps
# ``(in_channels, growth_rate)``: dense blocks of Inception layers, for instance, as in the study of
# 2018.

kinds = {
    "3x3": DenseBlock(64, 16),
    "bottleneck": DenseBlock(64, 16, bottleneck_factor=4),
    "Inception": DenseBlock(64, 16, layer=partial(InceptionBlock, kernel_sizes=(1, 3))),
}
macs = {name: block.expected_macs(14, 14) / 1e6 for name, block in kinds.items()}

fig, ax = plt.subplots(figsize=(5.2, 2.5))
bars = ax.barh(list(macs), list(macs.values()), color=["C0", "C1", "C2"])
ax.bar_label(bars, fmt="%.1f", padding=3)
ax.margins(x=0.12)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Four layers of growth 16 on 64 channels at 14 x 14", xlabel="million multiply-adds")
