"""
Your discriminator, unchanged
=============================

You have a discriminator, and it is none of ours. This page takes that of DCGAN as its authors
published it, in-place activations included, and makes it lean by one line. It trains both from one
seed on digits, compares their losses digit by digit, and draws what each holds in memory.
"""

# %%
# One line
# --------

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from gaslayers import (
    explain_saving,
    frozen,
    lean_saving,
    make_lean,
    make_plain,
    peak_memory,
    saved_bytes,
)
from gaslayers.study.data import load_digits


def dcgan_discriminator(width: int = 32) -> nn.Sequential:
    """Radford et al. 2016, for images of 32 x 32 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(4 * width, 1, 4, 1, 0, bias=False),
        nn.Flatten(),
    )


lean = make_lean(dcgan_discriminator())
print(type(lean).__name__, list(lean.state_dict())[:2])

# %%
# Two trainings from one seed
# ---------------------------

digits = F.pad(load_digits().images[:512, None].float() / 127.5 - 1.0, (2, 2, 2, 2), value=-1.0)


def train(*, is_lean: bool, steps: int = 12) -> tuple[nn.Module, list[float]]:
    """Train a discriminator to tell digits from noise; return it with its losses."""
    torch.manual_seed(0)
    network = dcgan_discriminator()
    if is_lean:
        make_lean(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
    losses = []
    for step in range(steps):
        real = digits[32 * step % 480 :][:32]
        fake = torch.rand(32, 1, 32, 32) * 2 - 1
        scores = network(real), network(fake)
        loss = F.softplus(-scores[0]).mean() + F.softplus(scores[1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, losses


plain, plain_losses = train(is_lean=False)
lean, lean_losses = train(is_lean=True)

print("step   plain                lean")
for step in range(0, 12, 3):
    print(f"{step:4}   {plain_losses[step]!r:20} {lean_losses[step]!r:20}")
print("identical:", plain_losses == lean_losses)
assert plain_losses == lean_losses

# %%
# Not close: identical.

fig, ax = plt.subplots()
ax.plot(plain_losses, "o-", markersize=9, alpha=0.5, label="plain")
ax.plot(lean_losses, ".--", label="lean")
ax.set(title="Losses of the two trainings", xlabel="step", ylabel="discriminator's loss")
ax.legend()

# %%
# What each operator keeps
# ------------------------
#
# The input of each batch norm has to be there. What the norms and activations made is computed
# again from it; of the activations a bit an element stays.

real = digits[:32].clone()  # a view would hold all the digits, and be counted so
explain_saving(plain, real)

# %%
# A step in memory, from the first layer forward to the last one backward:

fig, ax = plt.subplots()
for name, network in (("plain", plain), ("lean", lean)):
    report = peak_memory(network, real)
    ax.plot([moment.live / 2**20 for moment in report.timeline], label=name)
    print(f"{name:6} kept {saved_bytes(network, real):>10,} bytes, peak {report.peak:>10,} bytes")
ax.set(title="One step of the discriminator", xlabel="operator", ylabel="MiB of live tensors")
ax.legend()

# %%
# The generator's step
# --------------------
#
# Here the discriminator only hands a gradient on. ``frozen`` tells it so. Lean and frozen, it keeps
# bits and the inputs of the norms.

fake = real.clone().requires_grad_()
for name, network in (("plain", plain), ("lean", lean)):
    with frozen(network):
        print(f"{name:6} frozen, kept {saved_bytes(network, fake):>10,} bytes")

# %%
# Around a penalty, and back
# --------------------------
#
# ``lean_saving`` is the same as a context, for code that no module's forward pass holds: here a
# gradient penalty, whose second pass then keeps the same forms. ``make_plain`` undoes
# ``make_lean``.

make_plain(lean)
with lean_saving():
    (slope,) = torch.autograd.grad(lean(fake).sum(), fake, create_graph=True)
    slope.square().sum((1, 2, 3)).mean().backward()
