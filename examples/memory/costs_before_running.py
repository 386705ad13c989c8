"""
What will it cost? Ask before it runs
=====================================

Parameters, operations and bytes kept for the backward pass are three different costs. They do not
rank discriminators alike. This page counts the six of the 2018 study, none of which is trained
here.
"""

# %%
# One report
# ----------
#
# ``count`` follows one pass on a copy: the module stays as it is. Two engines count independently
# and must agree in every module, so an operator that one of them does not know cannot pass as
# free.

import matplotlib.pyplot as plt
import torch

from gaslayers import count, saved_bytes
from gaslayers.models import CASES, build_discriminator

torch.manual_seed(0)
layout = torch.channels_last
images = torch.zeros(32, 1, 28, 28).to(memory_format=layout)
networks = {case: build_discriminator(case).to(memory_format=layout) for case in CASES}
count(networks["inception_8"], images, backward=True)

# %%
# The numbers are there as integers, for the batch as given, for one sample, or for another batch.

report = count(networks["original"], images)
print(
    f"{report.macs:,} MACs, {report.per_sample.macs:,} per sample, convention {report.convention}"
)
print(f"{report.scaled(256).flops:,} FLOPs in a batch of 256")

# %%
# Six discriminators, three rankings
# ----------------------------------
#
# The ranking by parameters or by operations says little about the memory of a training step. The
# largest network is not the one that keeps the most.

reports = {case: count(network, images[:1]) for case, network in networks.items()}
plain = {
    case: build_discriminator(case, memory_efficient=False).to(memory_format=layout)
    for case in CASES
}
panels = {
    "Trainable parameters, thousand": {c: r.trainable / 1e3 for c, r in reports.items()},
    "Multiply-adds, million per sample": {c: r.per_sample.macs / 1e6 for c, r in reports.items()},
    "Kept by a pass of D, MiB, plain": {
        c: saved_bytes(n, images) / 2**20 for c, n in plain.items()
    },
}

fig, axes = plt.subplots(3, 1, figsize=(5.2, 7.2))
for index, (ax, (title, values)) in enumerate(zip(axes, panels.items(), strict=True)):
    bars = ax.barh(list(values), list(values.values()), color=f"C{index}")
    ax.bar_label(bars, fmt="%.1f", padding=3)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_title(title)

# %%
# What the lean paths leave of it
# -------------------------------
#
# The same six, as they run by default. A D step has two such passes, one of real and one of
# generated images. A G step has one through a frozen D (:doc:`/concepts/memory`).

lean = {case: saved_bytes(network, images) / 2**20 for case, network in networks.items()}
wanted = images.clone().requires_grad_()
frozen = {
    case: saved_bytes(network.requires_grad_(False), wanted) / 2**20
    for case, network in networks.items()
}
fig, ax = plt.subplots(figsize=(5.2, 4.4))
kept = {"pass of D, plain": panels["Kept by a pass of D, MiB, plain"], "pass of D, lean": lean,
        "frozen pass of D, lean": frozen}  # fmt: skip
for index, (name, values) in enumerate(kept.items()):
    places = [place + 0.27 * (index - 1) for place in range(len(CASES))]
    ax.barh(places, list(values.values()), height=0.25, color=("C1", "C0", "C2")[index], label=name)
ax.set_yticks(range(len(CASES)), CASES)
ax.invert_yaxis()
ax.grid(axis="y", visible=False)
ax.set(title="Kept by a pass of the six, batch 32", xlabel="MiB")
ax.legend()

# %%
# As numbers:

print(f"{'':26}" + "".join(f"{name:>24}" for name in kept))
for case in CASES:
    print(f"{case:26}" + "".join(f"{values[case]:20.2f} MiB" for values in kept.values()))
