r"""
Case 1: the plain discriminator
===============================

The discriminator of LSGAN at MNIST's size, and the yardstick of the study: four stages of a 3x3
convolution, activation and 2x2 max pooling, 32 filters in the first stage and twice as many in
each that follows.
"""

# %%
# The network
# -----------
#
# Each stage is one :class:`~gaslayers.DownBlock` around a :class:`~gaslayers.ConvNormAct`. The norm
# of stages two to four is 2018's as it ran: its training flag was never set, so it multiplied by
# constants near 1. The network trained with no normalisation at all, and ended in a sigmoid.
#
# .. block-diagram:: build_discriminator("original", variant="as_coded")
#    :shape: 32 1 28 28
#    :depth: 3

# sphinx_gallery_thumbnail_path = "../examples/records/faithful/original-as_coded-seed0/samples/001999.png"
import argparse
from pathlib import Path

import torch
from lightning_fabric import Fabric

from gaslayers import count, peak_memory, saved_bytes
from gaslayers.models import build_discriminator
from gaslayers.study import (
    PRESETS,
    draw_run_pictures,
    load_digits,
    read_run,
    replay,
    run_case,
)
from gaslayers.study.audit import audit

CASE = "original"
discriminator = build_discriminator(CASE, variant="as_coded")

# %%
# What it costs
# -------------
#
# The original published "777 MB" for this case. That was the whole process in ``nvidia-smi`` during
# a forward pass: driver context, the convolutions' workspaces and the allocator's regions. How much
# smaller the network's own numbers are depends on which of them is meant. The tensor peak of a whole
# D step, which has two passes, is :record:`faithful/original peak, plain` on the plain path
# (:doc:`/concepts/memory` says what a pass and a step are).

images = torch.zeros(32, 1, 28, 28)
plain = build_discriminator(CASE, variant="as_coded", memory_efficient=False)
print(f"kept by a pass of D at batch 32, plain: {saved_bytes(plain, images):12,} bytes")
print(f"kept by a pass of D at batch 32, lean:  {saved_bytes(discriminator, images):12,} bytes")

own = {
    "its parameters": sum(p.numel() * p.element_size() for p in plain.parameters()),
    "what a pass of D keeps, plain": saved_bytes(plain, images),
    "the tensor peak of a pass of D, plain": peak_memory(plain, images).peak,
}
for name, size in own.items():
    print(f"777 MB are {777e6 / size:3.0f} times {name}")
count(discriminator, images)

# %%
# The experiment
# --------------
#
# Run by hand in the repository's root with ``--preset faithful``, this script is the whole
# experiment of 2018, on a GPU where there is one. It can be stopped and started again. Without a
# preset, as on this page, it trains the first iterations. It compares their losses, and the hashes
# of configuration and code, with the committed record. A record of other code stops the script.

parser = argparse.ArgumentParser(description="Case 1: the plain discriminator.")
parser.add_argument("--preset", choices=PRESETS, help="train anew in full; faithful is 2018's")
parser.add_argument(
    "--records", type=Path, default="examples/records/faithful", help="the committed runs"
)
arguments = parser.parse_args()

digits = load_digits()
if arguments.preset is None:
    torch.set_num_threads(1)  # as in the record: another number of threads rounds differently
    run = read_run(arguments.records / f"{CASE}-as_coded-seed0")
    print(replay(run, digits, Fabric(accelerator="cpu", devices=1)))
else:
    fabric = Fabric(accelerator="auto", devices=1)
    out = Path("gaslayers-study") / arguments.preset
    run = run_case(CASE, out, digits, fabric, preset=arguments.preset)
pictures = draw_run_pictures(run)

# %%
# What happened
# -------------
#
# A line in each picture marks the loss while D cannot tell real from generated. Where D learns, its
# own loss falls below that line, and the generator's rises above it. Here L_D fell to
# :record:`faithful/original lowest L_D`, and L_G rose to :record:`faithful/original highest L_G`. The
# plots of 2018 show :record:`2018/original lowest L_D` and :record:`2018/original highest L_G`.

pictures[0]

# %%
# Its images at every saved iteration, from the same 32 points of noise:

pictures[1]

# %%
# And as they follow each other:

pictures[2]

# %%
# Over seeds
# ----------
#
# One run decides nothing. :doc:`/results/audit/audit` judges the claims of 2018 over seeds. What it has on
# this case so far, as coded and as one would train it today (``modern``):

print(audit(arguments.records.parent / "audit").about(CASE))
