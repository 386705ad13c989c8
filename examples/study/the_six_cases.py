r"""
The six cases side by side
==========================

Six discriminators, one generator, and LSGAN on MNIST: the question of 2018
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

header = ("case", "parameters", "kept, plain", "kept, lean", "L_D", "L_G")
print("{:26} {:>10} {:>12} {:>12} {:>7} {:>7}".format(*header))
for run in runs:
    record, bytes_kept, end = run.record, run.record.memory_predicted, run.curves[-1]
    print(
        f"{record.config.case:26} {record.discriminator_parameters:10,} "
        f"{bytes_kept.saved_bytes_plain:12,} {bytes_kept.saved_bytes:12,} "
        f"{end.discriminator_loss:7.3f} {end.generator_loss:7.3f}"
    )

# %%
# Kept: bytes that a D step keeps for its backward pass, both of its passes together
# (:doc:`/concepts/memory`). In the table of 2018 the plain network was the largest and the depthwise
# one the smallest. The bytes have another order. Losses are the last ones read.
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
# From one seed, little: how the source behaves, not how often. Two things need no statistics. Where
# a sigmoid rounds to 1, its gradient is exactly zero, so a discriminator can come to a state that no
# step leaves; the page of ``depthwise_inception`` shows how far its run came. And the narrower
# networks start with logits that are closer together, since nothing normalises them: after one
# iteration the standard deviation of case 1's is
# :record:`faithful/original first logit spread over faithful/inception_8` times that of case 6's. So
# width is confounded with initial scale.
