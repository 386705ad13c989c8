"""
Lean against plain: the same training, fewer bytes
==================================================

One discriminator, one seed, two paths. The plain one keeps what autograd keeps by itself; the
lean one keeps what the gradients need. This page trains both, compares their losses digit by
digit, and draws what each holds in memory from the first layer of the forward pass to the last of
the backward pass.
"""

# %%
# Two trainings from one seed
# ---------------------------
#
# The discriminator ``original`` of the study, on digits that come with the package.

import matplotlib.pyplot as plt
import torch
from torch import nn

from gaslayers import LSGANDiscriminatorLoss, peak_memory, saved_bytes
from gaslayers.models import build_discriminator
from gaslayers.study.data import load_digits

digits = load_digits().images[:512, None].float() / 127.5 - 1.0
loss_of = LSGANDiscriminatorLoss()


def train(*, memory_efficient: bool, steps: int = 12) -> tuple[nn.Module, list[float]]:
    """Train a discriminator to tell digits from noise; return it with its losses."""
    torch.manual_seed(0)
    network = build_discriminator("original", memory_efficient=memory_efficient)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-4)
    losses = []
    for step in range(steps):
        real = digits[32 * step % 480 :][:32]
        fake = torch.rand(32, 1, 28, 28) * 2 - 1
        loss = loss_of(network(real), network(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, losses


plain, plain_losses = train(memory_efficient=False)
lean, lean_losses = train(memory_efficient=True)

print("step   plain                lean")
for step in range(0, 12, 3):
    print(f"{step:4}   {plain_losses[step]!r:20} {lean_losses[step]!r:20}")
print("identical:", plain_losses == lean_losses)
assert plain_losses == lean_losses

# %%
# Not close: identical. And so are the weights after the last step.

states = zip(plain.state_dict().values(), lean.state_dict().values(), strict=True)
print("identical weights:", all(torch.equal(a, b) for a, b in states))

fig, ax = plt.subplots()
ax.plot(plain_losses, "o-", markersize=9, alpha=0.5, label="plain")
ax.plot(lean_losses, ".--", label="lean")
ax.set(title="Losses of the two trainings", xlabel="step", ylabel="discriminator's loss")
ax.legend()

# %%
# What is kept
# ------------
#
# ``saved_bytes`` runs one forward pass on a copy and adds up every storage that autograd holds
# for the backward pass, each once.

batch = digits[:32].clone()  # a view would hold all the digits, and be counted so
for name, network in (("plain", plain), ("lean", lean)):
    print(f"{name:6} {saved_bytes(network, batch) / 2**20:6.2f} MiB by a pass of D")

images = batch.clone().requires_grad_()
for name, network in (("plain", plain), ("lean", lean)):
    frozen = saved_bytes(network.requires_grad_(False), images)
    print(f"{name:6} {frozen / 2**20:6.2f} MiB by a frozen pass of D")
    network.requires_grad_(True)

# %%
# One step, as it goes
# --------------------
#
# ``peak_memory`` follows every storage of a training step from its birth to its death, without
# running the step: :class:`its report <gaslayers.accounting.PeakReport>` has the live bytes at
# every moment. Parameters and inputs are there all the time, hence the floor under both lines.
#
# The plain line climbs through the forward pass, as maps pile up for later. The lean line only
# rises for as long as an operator needs its map; the backward pass then makes one map at a time.

fig, axes = plt.subplots(2, 1, figsize=(5.2, 4.8), sharex=True, sharey=True)
for ax, (name, network, colour) in zip(
    axes, (("Plain", plain, "C1"), ("Lean", lean, "C0")), strict=True
):
    report = peak_memory(network, batch)
    line = [moment.live / 2**20 for moment in report.timeline]
    turn = next(i for i, moment in enumerate(report.timeline) if moment.phase == "backward")
    # Forward from 0 to 1, backward from 1 to 2: the two paths take different numbers of operators.
    time = [i / turn if i < turn else 1 + (i - turn) / (len(line) - turn) for i in range(len(line))]
    ax.plot(time, line, color=colour)
    ax.fill_between(time, line, color=colour, alpha=0.2)
    ax.axvline(1.0, color="0.4", linewidth=0.8)
    ax.set(title=f"{name}: {report.peak / 2**20:.1f} MiB at the peak", ylabel="live MiB")
axes[0].set(ylim=(0, None))
axes[1].set_xticks([0.5, 1.5], ["forward", "backward"])

# %%
# What is kept for the backward pass shrinks by more than the peak does: at its own peak a step
# also needs the map that it is working on, and no path can do without that. The gap between the
# two lines where forward ends is what is saved for every further network, batch or layer.

# %%
# Which paths ran
# ---------------
#
# Nothing was switched on for this: lean is the default wherever it is known to be exact. What time
# it takes depends on the machine. Of the :record:`lean_eager works` pieces of work that were
# recorded with compiled kernels, :record:`lean_eager slower` took longer than plain, at most
# :record:`lean_eager longest` times plain's time; the median is :record:`lean_eager median`. Of the
# :record:`lean_without_kernels works` without kernels, :record:`lean_without_kernels slower` took
# longer, at most :record:`lean_without_kernels longest` times; the median is
# :record:`lean_without_kernels median` (:doc:`/results/index`).

for stage in lean.stages:
    print(stage.execution)
