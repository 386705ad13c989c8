"""
A discriminator out of blocks
=============================

Every block knows its ``out_channels``, so blocks go together without arithmetic. This page builds a
discriminator of three different stages, looks at what it is going to cost, and trains it against a
small generator on the digits that come with the package.
"""

# %%
# Three stages
# ------------
#
# A plain stage at the full size, where maps are large; an Inception stage; a dense block with a
# transition at the end, where maps are small and channels many. Any of these lines can be swapped
# for another block.

from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import nn

from gaslayers import (
    DenseBlock,
    DownBlock,
    InceptionBlock,
    LSGANDiscriminatorLoss,
    LSGANGeneratorLoss,
    TransitionBlock,
    count,
    saved_bytes,
)
from gaslayers.accounting import saved_bytes_by_module
from gaslayers.models import LSGANGenerator
from gaslayers.study.data import load_digits

torch.manual_seed(0)
leaky = partial(nn.LeakyReLU, 0.2)

first = DownBlock(1, 24, norm_layer=None, activation_layer=leaky)
second = DownBlock(first.out_channels, 48, block=InceptionBlock, activation_layer=leaky)
dense = DenseBlock(second.out_channels, growth_rate=16, num_layers=3, activation_layer=leaky)
last = TransitionBlock(dense.out_channels, activation_layer=leaky)
head = nn.Sequential(nn.Flatten(), nn.LazyLinear(1))
discriminator = nn.Sequential(first, second, dense, last, head)

images = load_digits().images[:2048, None].float() / 127.5 - 1.0
print(tuple(discriminator(images[:8]).shape))

# %%
# Before it is trained
# --------------------

count(discriminator, images[:32])

# %%
# Of what it keeps for the backward pass, how much does each stage keep? The first stages have the
# largest maps.

batch = images[:32].clone()  # a view would hold all the digits, and be counted so
by_module = saved_bytes_by_module(discriminator, batch)
names = ["DownBlock", "DownBlock, Inception", "DenseBlock", "TransitionBlock", "head"]
stages = [0.0] * len(names)
for name, size in by_module.items():
    stages[int(name.partition(".")[0])] += size / 2**20

fig, ax = plt.subplots(figsize=(5.2, 2.8))
bars = ax.barh(names, stages)
ax.bar_label(bars, fmt="%.2f", padding=3)
ax.margins(x=0.14)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Kept for backward by stage, batch 32", xlabel="MiB")
print(f"{saved_bytes(discriminator, batch) / 2**20:.2f} MiB in all")

# %%
# Training it
# -----------
#
# Two habits save memory in any GAN. The discriminator's step does not need a graph through the
# generator: generate its images without one. And the generator's step does not need gradients of
# the discriminator's weights: freeze them, and the lean stages keep next to nothing.

generator = LSGANGenerator(32, base_channels=16, variant="modern", upsampling="pixel_shuffle")
discriminator_loss, generator_loss = LSGANDiscriminatorLoss(), LSGANGeneratorLoss()
optimizers = {
    network: torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999))
    for network, rate in ((discriminator, 2e-4), (generator, 1e-3))
}
history = []
for _ in range(40):
    real = images[torch.randint(len(images), (32,))]

    with torch.no_grad():
        fake = generator(torch.randn(32, 32))
    loss_d = discriminator_loss(discriminator(real), discriminator(fake))
    optimizers[discriminator].zero_grad()
    loss_d.backward()
    optimizers[discriminator].step()

    discriminator.requires_grad_(False)
    loss_g = generator_loss(discriminator(generator(torch.randn(32, 32))))
    optimizers[generator].zero_grad()
    loss_g.backward()
    optimizers[generator].step()
    discriminator.requires_grad_(True)

    history.append((loss_d.item(), loss_g.item()))

fig, ax = plt.subplots()
ax.plot([d for d, _ in history], label="discriminator")
ax.plot([g for _, g in history], "--", label="generator")
ax.set(title="The first steps", xlabel="step", ylabel="loss, paper's convention")
ax.legend()

# %%
# These are the first steps of a training, stopped there to keep the page quick: the generator draws
# textures, and no digit yet. The study's pages show how whole trainings go on.

with torch.no_grad():
    samples = generator(torch.randn(32, 32))[:, 0]
pair = {"Generated": samples, "Real": images[:32, 0]}
fig, axes = plt.subplots(2, 1, figsize=(5.2, 3.2))
for ax, (name, pictures) in zip(axes, pair.items(), strict=True):
    ax.imshow(pictures[:20].unflatten(0, (2, 10)).permute(0, 2, 1, 3).flatten(2).flatten(0, 1),
              cmap="gray", vmin=-1, vmax=1)  # fmt: skip
    ax.set(title=name, xticks=[], yticks=[])
    ax.grid(visible=False)
