r"""
Case 5: inception, 16 base filters
==================================

Case 3 at half the width: where 2018 saw memory saved and "mode collapse" appear.
"""

# %%
# The network
# -----------
#
# The same :class:`~gaslayers.InceptionBlock` stages, 16 to 128 channels wide.
#
# .. block-diagram:: build_discriminator("inception_16", variant="as_coded")
#    :shape: 32 1 28 28
#    :depth: 3

# sphinx_gallery_thumbnail_path = "../examples/records/faithful/inception_16-as_coded-seed0/samples/001999.png"
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

CASE = "inception_16"
discriminator = build_discriminator(CASE, variant="as_coded")

# %%
# What it costs
# -------------
#
# Half the width is a quarter of the parameters and half of the maps.

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

parser = argparse.ArgumentParser(description="Case 5: inception, 16 base filters.")
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
# Here the initial spread of the logits is an eighth of case 1's: D needs hundreds of iterations
# before it tells anything apart, and few distinct images until then. Width is confounded with
# initial scale, which the original did not control.

pictures[0]

# %%
# Its images at every saved iteration, from the same 32 points of noise:

pictures[1]

# %%
# And as they follow each other:

pictures[2]
