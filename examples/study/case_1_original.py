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

from gaslayers import count, saved_bytes
from gaslayers.models import build_discriminator
from gaslayers.study import (
    PRESETS,
    draw_run_pictures,
    load_digits,
    read_run,
    replay,
    run_case,
)

CASE = "original"
discriminator = build_discriminator(CASE, variant="as_coded")

# %%
# What it costs
# -------------
#
# The original published 777 MB for this case. That was the whole process in ``nvidia-smi`` during a
# forward pass: driver context, the convolutions' workspaces and the allocator's regions. The
# network's own numbers are three orders of magnitude smaller.

images = torch.zeros(32, 1, 28, 28)
plain = build_discriminator(CASE, variant="as_coded", memory_efficient=False)
print(f"kept for backward at batch 32, plain: {saved_bytes(plain, images):12,} bytes")
print(f"kept for backward at batch 32, lean:  {saved_bytes(discriminator, images):12,} bytes")
count(discriminator, images)

# %%
# The experiment
# --------------
#
# Run by hand in the repository's root with ``--preset faithful``, this script is the whole
# experiment: 2000 iterations at batch 32, one step of D to four of G, on a GPU where there is one;
# it can be stopped and started again. Run without, as on this page, it trains the first iterations
# and compares their losses, and the hashes of configuration and code, with the committed record: a
# record that is not of this code stops the script.

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
# With a discriminator that learns, its loss falls below 8, where it cannot tell real from
# generated, and the generator's rises above 4. The plots of 2018 rose to 12-16 and fell to 3.5-4.5.

pictures[0]

# %%
# Its images at every saved iteration, from the same 32 points of noise:

pictures[1]

# %%
# And as they follow each other:

pictures[2]
