r"""
The six cases side by side
==========================

Six discriminators, one generator, 2000 iterations of LSGAN on MNIST each: the question of 2018
was how far a discriminator can shrink before training breaks. This page draws the committed
records of our runs of its source as it was, faults included, over the readings of its plots. Each
case has a page of its own, on which its first iterations are trained anew and compared with its
record.
"""

# %%
# The records
# -----------
#
# A run leaves one folder: a record of what ran and how it ended, the losses, the samples.
# Everything below is drawn from these folders.

# sphinx_gallery_thumbnail_path = "../examples/records/faithful/samples.png"
import argparse
from pathlib import Path

from gaslayers.models import CASES
from gaslayers.study import draw_study_pictures, read_run

parser = argparse.ArgumentParser(description="The six cases side by side.")
parser.add_argument(
    "--records", type=Path, default="examples/records/faithful", help="the committed runs"
)
records = parser.parse_args().records
runs = [read_run(records / f"{case}-as_coded-seed0") for case in CASES]
pictures = {picture.name: picture for picture in draw_study_pictures(records)}

header = ("case", "parameters", "kept, plain", "kept, lean", "L_D", "L_G", "iterations/s")
print("{:26} {:>10} {:>12} {:>12} {:>7} {:>7} {:>12}".format(*header))
for run in runs:
    record, bytes_kept, end = run.record, run.record.memory_predicted, run.curves[-1]
    print(
        f"{record.config.case:26} {record.discriminator_parameters:10,} "
        f"{bytes_kept.saved_bytes_plain:12,} {bytes_kept.saved_bytes:12,} "
        f"{end.discriminator_loss:7.3f} {end.generator_loss:7.3f} "
        f"{record.iterations_per_second:12.2f}"
    )

# %%
# Kept: bytes that a D step keeps for its backward pass. The order of the 2018 table - the plain
# network largest, the depthwise one smallest - is not that of the bytes. Losses are the last ones
# read.
#
# The generator's loss
# --------------------
#
# Sums over 32 images: 4 means that D scores everything 1/2, 16 that it rejects every generated
# image, 0 that it takes every one for real.

pictures["generator_loss.png"]

# %%
# The discriminator's loss
# ------------------------
#
# 8 means that D tells nothing apart.

pictures["discriminator_loss.png"]

# %%
# What the generators draw
# ------------------------
#
# From the same 32 points of noise, after the last iteration. The original put the first image of
# its batch into the first column of every row, a slip of its saving loop; here all 32 are
# different points.

pictures["samples.png"]

# %%
# And on the way there:

pictures["training.gif"]

# %%
# What may be concluded
# ---------------------
#
# From one seed, little: how the source behaves, not how often. What is certain needs no
# statistics: a saturated sigmoid has no gradient, so that ``depthwise_inception`` cannot recover;
# and the narrower networks start with logits that are tens of times closer together, since
# nothing normalises them, so that width is confounded with initial scale.
