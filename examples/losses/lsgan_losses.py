r"""
Least squares, and what a sigmoid does to them
==============================================

The LSGAN losses pull a discriminator's scores towards labels by their squared distance. A score
that is far from its label is pulled hard, however wrong it is. Put a sigmoid in front, as many
ports do, and the opposite holds: the more wrong a score, the weaker the pull.

.. math::
   L_D &= \frac{1}{2} \, \mathbb{E}[(D(x) - b)^2] + \frac{1}{2} \, \mathbb{E}[(D(G(z)) - a)^2] \\
   L_G &= \frac{1}{2} \, \mathbb{E}[(D(G(z)) - c)^2]
"""

# %%
# Two losses
# ----------
#
# ``a`` is the label of generated and ``b`` of real data; ``c`` is what the generator wants its
# images to be taken for.

import matplotlib.pyplot as plt
import torch

import gaslayers.functional as GF
from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss

real_scores = torch.tensor([1.3, 0.2, 0.9, 0.6])
fake_scores = torch.tensor([0.8, -0.5, 0.1, 0.4])
print(f"L_D = {LSGANDiscriminatorLoss()(real_scores, fake_scores):.5f}")
print(f"L_G = {LSGANGeneratorLoss()(fake_scores):.5f}")

# %%
# They are modules; as functions they are in ``gaslayers.functional``. The labels are free:
# ``a=-1, b=1, c=0`` makes the pair minimise the Pearson chi-squared divergence.

pearson = GF.lsgan_discriminator_loss(real_scores, fake_scores, a=-1.0, b=1.0)
print(f"L_D = {pearson:.5f}, L_G = {GF.lsgan_generator_loss(fake_scores, c=0.0):.5f}")

# %%
# A discriminator of several scales returns a list of scores. The loss is the mean over its scales,
# weighted if asked. Real and generated batches may differ in size.

fine, coarse = torch.zeros(2, 1, 8, 8), torch.ones(3, 1, 4, 4)
print(f"L_G = {LSGANGeneratorLoss()([fine, coarse]):.5f}")
print(f"L_G = {LSGANGeneratorLoss(scale_weights=(1, 3))([fine, coarse]):.5f}")

# %%
# Scores with other numbers of dimensions are an error. ``(4, 1)`` against ``(4,)`` means that one
# of them was squeezed by mistake, and elsewhere broadcasts to a loss over all 16 pairs.

try:
    LSGANDiscriminatorLoss()(real_scores[:, None], fake_scores)
except ValueError as error:
    print(error)

# %%
# The pull
# --------
#
# The gradient that the generator gets through one score, with a linear head and with a sigmoid. The
# sigmoid's has a factor :math:`s (1 - s)`, which vanishes on both sides.

logits = torch.linspace(-10, 10, 201)
pull = {}
for name, sigmoid in (("linear head", False), ("sigmoid head", True)):
    x = logits.clone().requires_grad_()
    GF.lsgan_generator_loss(x, reduction="sum", sigmoid=sigmoid).backward()
    pull[name] = x.grad

fig, axes = plt.subplots(2, 1, sharex=True, figsize=(5.2, 4.4))
for ax, (name, gradient), colour in zip(axes, pull.items(), ("C0", "C1"), strict=True):
    ax.plot(logits, gradient, color=colour)
    ax.axhline(0.0, color="0.4", linewidth=0.8)
    ax.set(title=f"Gradient of L_G by the logit, {name}", ylabel="gradient")
axes[-1].set_xlabel("logit of D on a generated image")

# %%
# A flat region
# -------------
#
# Follow the pull from scores that start out wrong by more and more. With the linear head every
# one of them arrives. With the sigmoid, those that start in the flat region hardly move under
# plain gradient descent. An optimiser that divides by the gradient's size, as RMSProp and Adam do,
# can still leave it. None can leave where the sigmoid rounds to 1 in float32, since the gradient
# there is exactly zero. The study of 2018 trained with a sigmoid head
# (:doc:`/gallery/study/case_2_depthwise_inception`).


def follow(start: float, *, sigmoid: bool, steps: int = 400, rate: float = 0.1) -> list[float]:
    """Descend the generator's loss on one score; return D's verdict after each step."""
    logit = torch.tensor([start], requires_grad=True)
    path = []
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(GF.lsgan_generator_loss(logit, sigmoid=sigmoid), logit)
        with torch.no_grad():
            logit -= rate * gradient
        path.append((logit.sigmoid() if sigmoid else logit).item())
    return path


starts = (-1.0, -4.0, -8.0)
fig, axes = plt.subplots(2, 1, sharex=True, figsize=(5.2, 4.4))
for ax, sigmoid in zip(axes, (False, True), strict=True):
    for start, style in zip(starts, ("-", "--", ":"), strict=True):
        ax.plot(follow(start, sigmoid=sigmoid), style, label=f"from {start:g}")
    ax.axhline(1.0, color="0.4", linewidth=0.8)
    ax.set(title=f"{'Sigmoid' if sigmoid else 'Linear'} head: the way to label 1", ylabel="score")
axes[0].legend(title="logit", loc="lower right")
axes[-1].set_xlabel("gradient step")

# %%
# Half precision
# --------------
#
# The squares of float16 scores overflow from about 256 on. The losses compute in float32 whatever
# they are given.

large = torch.full((4,), 390.0, dtype=torch.float16)
print((large - 1).square().mean(), LSGANGeneratorLoss()(large))
