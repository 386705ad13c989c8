r"""
Case 6: inception, 8 base filters
=================================

Case 3 at a quarter of the width, the smallest of the six in parameters: how far can D shrink?
"""

# %%
# The network
# -----------
#
# The same :class:`~gaslayers.InceptionBlock` stages, 8 to 64 channels wide.
#
# .. block-diagram:: build_discriminator("inception_8", variant="as_coded")
#    :shape: 32 1 28 28
#    :depth: 3

# sphinx_gallery_thumbnail_path = "../examples/records/faithful/inception_8-as_coded-seed0/samples/001999.png"
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

CASE = "inception_8"
discriminator = build_discriminator(CASE, variant="as_coded")

# %%
# What it costs
# -------------
#
# 13,857 parameters: with two cores and no GPU this discriminator is a fraction of a training step.
# Almost all of an iteration's time is the generator's.

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

parser = argparse.ArgumentParser(description="Case 6: inception, 8 base filters.")
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
# D wakes up late, after about 1000 iterations, and by then the generator has settled on a few
# images. In 2018 it stayed near 8 and 4 to the end, at iteration 1800.

pictures[0]

# %%
# Its images at every saved iteration, from the same 32 points of noise:

pictures[1]

# %%
# And as they follow each other:

pictures[2]
