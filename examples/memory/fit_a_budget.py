"""
The largest batch for a budget
==============================

"CUDA out of memory" usually comes minutes into a training, or hours. The peak of a training step
is a number that follows from the network, and can be had before: to the byte, without a GPU,
without running anything. So can the largest batch that fits.
"""

# %%
# The peak of a step
# ------------------
#
# ``peak_memory`` takes a step with tensors that have shapes but no memory, optimiser included,
# and says how high it gets, where, and what is alive then.

from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import nn

from gaslayers import DenseBlock, DownBlock, max_batch_size, measure_peak, peak_memory

torch.manual_seed(0)


def discriminator(*, memory_efficient: bool) -> nn.Sequential:
    """A small discriminator for 32 x 32 colour images."""
    stage = partial(DownBlock, memory_efficient=memory_efficient)
    dense = DenseBlock(64, 16, num_layers=3, memory_efficient=memory_efficient)
    first, last = stage(3, 64, norm_layer=None), stage(dense.out_channels, 128)
    return nn.Sequential(first, dense, last, nn.Flatten(), nn.Linear(128 * 8 * 8, 1))


networks = {
    "plain": discriminator(memory_efficient=False),
    "lean": discriminator(memory_efficient=True),
}
images = torch.zeros(32, 3, 32, 32)
adam = torch.optim.Adam
reports = {name: peak_memory(net, images, optimizer=adam) for name, net in networks.items()}
reports["lean"]

# %%
# What is alive at the peak
# -------------------------
#
# Activations, what is kept for the backward pass, are the bulk of the plain peak. The lean one is
# mostly what the step is working on at that moment.

kinds = [kind for kind, size in reports["plain"].breakdown.items() if size > 2**14]
fig, ax = plt.subplots(figsize=(5.2, 3.6))
for offset, (name, report) in enumerate(reports.items()):
    places = [place + 0.38 * (offset - 0.5) for place in range(len(kinds))]
    sizes = [report.breakdown[kind] / 2**20 for kind in kinds]
    bars = ax.barh(places, sizes, height=0.36, color=("C1", "C0")[offset],
                   label=f"{name}, {report.peak / 2**20:.1f} MiB in all")  # fmt: skip
    ax.bar_label(bars, fmt="%.1f", padding=3)
ax.margins(x=0.12)
ax.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Alive at the peak of a step, batch 32", xlabel="MiB")
ax.legend(loc="center right")

# %%
# The largest batch
# -----------------
#
# From a batch of two up the peak is a straight line, or the highest of a few. So a few rehearsals
# find the largest batch for a budget, and it is verified before it is returned.

budget = 64 * 2**20
fig, ax = plt.subplots()
for (name, network), style in zip(networks.items(), ("C1o--", "C0s-"), strict=True):
    largest = max_batch_size(network, (3, 32, 32), budget_bytes=budget, optimizer=adam)
    last = peak_memory(network, torch.zeros(96, 3, 32, 32), optimizer=adam)
    peaks = [reports[name].peak / 2**20, last.peak / 2**20]
    ax.plot([32, 96], peaks, style, label=f"{name}: {largest} samples fit")
    ax.axvline(largest, color=style[:2], linewidth=0.8)
ax.axhline(budget / 2**20, color="0.4", linewidth=0.8)
ax.annotate("budget", (32, budget / 2**20), xytext=(0, 3), textcoords="offset points")
ax.set(title="Peak of a step by batch, and what fits", xlabel="samples", ylabel="MiB")
ax.legend()

# %%
# Believe it, and check
# ---------------------
#
# ``measure_peak`` runs a step and reads what was really allocated. On a CPU it sees what the step
# allocates, not what was there before, and so is compared with the rise over the step's start.
# What is left are the kernels' own workspaces, which no tensor accounts for.

network = networks["lean"]
optimizer = torch.optim.Adam(network.parameters())


def step() -> None:
    """One training step, as `peak_memory` has it."""
    network(images).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


step()  # makes the optimiser's state
measured = measure_peak(step, device="cpu", process=False)
report = reports["lean"].steady_state
print(f"predicted rise {(report.peak - report.start) / 2**20:8.2f} MiB")
print(f"measured rise  {measured.rise / 2**20:8.2f} MiB")
print(f"workspaces     {measured.workspace(report) / 2**20:8.2f} MiB")
