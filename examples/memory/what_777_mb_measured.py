r"""
What "777 MB" measured
======================

The 2018 study gave six sizes, from "777 MB" for the plain discriminator down to "199 MB" for the
depthwise one, and concluded that inception needs "1.59x less memory". This page counts what the
networks do take, to the byte and without running them.
"""

# %%
# One number, four quantities
# ---------------------------
#
# The sizes were the readings of ``nvidia-smi`` while D alone ran forward. That is the process on
# the GPU: the driver's context, the workspaces of convolutions, and the regions that a growing
# allocator had asked for. Of the network itself there are four sizes worth knowing: its parameters,
# the tensors of a forward pass, those of a D step, and those of a frozen pass, which is the part of
# a G step that goes through D (:doc:`/concepts/memory` defines them).

import itertools

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from gaslayers import LSGANDiscriminatorLoss, peak_memory, saved_bytes
from gaslayers.models import CASES, build_discriminator

SIZES_2018 = dict(zip(CASES, (777, 199, 489, 393, 361, 297), strict=True))  # MB, as published
BATCH = 32

# %%
# An allocator that grows by regions would show in such sizes. Between five of the six, every
# difference is indeed a multiple of 32. The depthwise one does not fit in:

for one, other in itertools.combinations(SIZES_2018, 2):
    difference = abs(SIZES_2018[one] - SIZES_2018[other])
    steps = (
        "a multiple of 32"
        if difference % 32 == 0
        else f"32 x {difference // 32} + {difference % 32}"
    )
    print(f"{one:26} {other:26} {difference:4} MB, {steps}")

# %%
# The networks themselves:


class DiscriminatorStep(nn.Module):
    """The loss of a D step, on a batch of real and one of generated images."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.loss = LSGANDiscriminatorLoss()

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.loss(self.discriminator(real), self.discriminator(fake))


def measure(case: str, *, memory_efficient: bool) -> dict[str, int]:
    """Bytes of one network: parameters, and the tensor peak of three kinds of step."""
    torch.manual_seed(0)
    network = build_discriminator(case, memory_efficient=memory_efficient)
    # The layout that convolutions are fastest in, and that the study trains in.
    network = network.to(memory_format=torch.channels_last)
    images = torch.zeros(BATCH, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    step = DiscriminatorStep(network)
    found = {
        "parameters": sum(p.numel() * p.element_size() for p in network.parameters()),
        "D step": peak_memory(step, (images, images.clone()), optimizer=torch.optim.RMSprop).peak,
        "kept by D step": saved_bytes(step, (images, images.clone())),
    }
    network.requires_grad_(False)  # as while G learns
    found["forward"] = peak_memory(network, images).peak
    found["frozen pass"] = peak_memory(network, images.clone().requires_grad_()).peak
    return found


plain = {case: measure(case, memory_efficient=False) for case in CASES}
lean = {case: measure(case, memory_efficient=True) for case in CASES}

# %%
# The six cases in bytes
# ----------------------
#
# Float32, batch 32, as coded in 2018; "lean" is this library's default, the same function and
# gradient.

columns = ("parameters", "forward", "D step", "kept by D step", "frozen pass")
print(f"{'MiB':32}" + "".join(f"{name:>17}" for name in columns))
for case in CASES:
    for way, found in (("plain", plain[case]), ("lean", lean[case])):
        cells = "".join(f"{found[name] / 2**20:17.2f}" for name in columns)
        print(f"{case if way == 'plain' else '':26}{way:>6}{cells}")

# %%
# The published order does not survive
# ------------------------------------
#
# What training keeps depends on the feature maps. Inception at 32 filters has the plain network's
# widths, so it keeps the plain network's bytes. The depthwise network, the smallest of 2018,
# keeps :record:`faithful/depthwise_inception kept, plain over faithful/original` times as many,
# since each separable branch stores every one of its maps.

fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.0), sharey=True)
names = list(CASES)
axes[0].barh(names, [SIZES_2018[case] for case in names], color="C3")
axes[0].set(title="Published in 2018", xlabel="MB, process in nvidia-smi")
places = torch.arange(len(names)).numpy()
for offset, (label, found) in zip((-0.2, 0.2), (("plain", plain), ("lean", lean)), strict=True):
    sizes = [found[case]["D step"] / 2**20 for case in names]
    axes[1].barh(places + offset, sizes, height=0.4, label=label)
axes[1].set(title="Tensor peak of a D step", xlabel="MiB")
axes[1].legend(loc="lower right")
axes[0].invert_yaxis()
for ax in axes:
    ax.grid(axis="y", visible=False)

# %%
# The headline saving was 777 / 489. In bytes that a D step keeps it is

ratio = plain["original"]["kept by D step"] / plain["inception_32"]["kept by D step"]
print(f"original / inception_32, plain: {ratio:.2f}")
own = plain["original"]["kept by D step"] / lean["original"]["kept by D step"]
print(f"original plain / original lean: {own:.2f}")
