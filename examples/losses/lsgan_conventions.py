"""
One LSGAN, four scales
======================

"The LSGAN loss" is a different number in each project that trains with it: with or without one
half, on one network or on both, the mean or the sum over the batch. A learning rate does not
carry over from one to the next. ``from_convention`` names the scales, so that a port can say what
it does.
"""

# %%
# The same scores, four losses
# ----------------------------

import matplotlib.pyplot as plt
import torch

from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss

conventions = {
    "paper": "mean, 1/2 on both",
    "mse": "mean, no 1/2",
    "pytorch-gan": "mean, 1/2 on D's alone",
    "gas2018": "sigmoid, SUM, 1/2",
}
real_scores = torch.tensor([1.3, 0.2, 0.9, 0.6])
fake_scores = torch.tensor([0.8, -0.5, 0.1, 0.4])

print(f"{'convention':12} {'what it does':24} {'L_D':>8} {'L_G':>8}")
for name, words in conventions.items():
    discriminator_loss = LSGANDiscriminatorLoss.from_convention(name)(real_scores, fake_scores)
    generator_loss = LSGANGeneratorLoss.from_convention(name)(fake_scores)
    print(f"{name:12} {words:24} {discriminator_loss:8.5f} {generator_loss:8.5f}")

# %%
# What they are made of
# ---------------------
#
# A convention is nothing but arguments: each loss prints as the call that builds it.

for name in conventions:
    print(f"{name:12} {LSGANGeneratorLoss.from_convention(name)}")

# %%
# Why the sum matters
# -------------------
#
# Means do not depend on the batch; a sum grows with it. The gradient that reaches the generator
# under ``gas2018`` is so many times larger, the larger the batch. With plain SGD that is a
# learning rate that changes with the batch size. Adam and RMSProp divide it out again, which
# hides the difference until a gradient penalty or weight decay is added, which they do not
# divide.

batches = [4, 8, 16, 32, 64, 128]
noise = torch.randn(max(batches), 1, generator=torch.Generator().manual_seed(0))


def gradient_norm(name: str, batch: int) -> float:
    """Length of the generator loss's gradient by a shift of all the scores."""
    scores = 0.3 * noise[:batch]
    shift = torch.zeros(1, requires_grad=True)
    loss = LSGANGeneratorLoss.from_convention(name)(scores + shift)
    (gradient,) = torch.autograd.grad(loss, shift)
    return gradient.abs().item()


fig, ax = plt.subplots()
for name, style in zip(conventions, ("o-", "s--", "^:", "d-."), strict=True):
    ax.loglog(batches, [gradient_norm(name, batch) for batch in batches], style, label=name)
ax.set_xticks(batches, map(str, batches))
ax.minorticks_off()
ax.set(
    title="Pull on the generator by one shared shift of the scores",
    xlabel="batch size",
    ylabel="gradient",
)
ax.legend()

# %%
# Reading a loss curve
# --------------------
#
# A discriminator that says 1/2 for everything has learned nothing; one that is saturated hardly
# can. Both show as constants, and which constants depends on the convention. Look yours up before
# calling a flat line "converged":

half, one, zero = (torch.full((32, 1), value) for value in (0.5, 1.0, 0.0))
for name in ("paper", "mse", "pytorch-gan"):
    d = LSGANDiscriminatorLoss.from_convention(name)
    g = LSGANGeneratorLoss.from_convention(name)
    print(f"{name:12} undecided: L_D {d(half, half):.3f}, L_G {g(half):.3f}   "
          f"perfect D: L_D {d(one, zero):.3f}, L_G {g(zero):.3f}")  # fmt: skip

# %%
# ``gas2018`` takes logits, and sums over its batch of 32:

d, g = (loss.from_convention("gas2018") for loss in (LSGANDiscriminatorLoss, LSGANGeneratorLoss))
for name, logit in (("undecided", 0.0), ("saturated at 1", 50.0)):
    scores = torch.full((32, 1), logit)
    print(f"{name:15} L_D {d(scores, scores):.1f}, L_G {g(scores):.1f}")
