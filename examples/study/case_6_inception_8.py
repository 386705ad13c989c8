r"""
Case 6: inception, 8 base filters
=================================

Case 3 with eight filters in place of 32, the smallest of the six in parameters: how far can D
shrink?
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
from gaslayers.study.audit import audit

CASE = "inception_8"
discriminator = build_discriminator(CASE, variant="as_coded")

# %%
# What it costs
# -------------
#
# It has :record:`faithful/inception_8 parameters` parameters,
# :record:`faithful/inception_8 parameters of faithful/inception_32` of case 3's. On the plain path a
# D step keeps :record:`faithful/inception_8 kept, plain of faithful/inception_32` of its bytes.

images = torch.zeros(32, 1, 28, 28)
plain = build_discriminator(CASE, variant="as_coded", memory_efficient=False)
print(f"kept by a pass of D at batch 32, plain: {saved_bytes(plain, images):12,} bytes")
print(f"kept by a pass of D at batch 32, lean:  {saved_bytes(discriminator, images):12,} bytes")
count(discriminator, images)

# %%
# The experiment
# --------------
#
# Run by hand in the repository's root with ``--preset faithful``, this script is the whole
# experiment of 2018, on a GPU where there is one. It can be stopped and started again. Without a
# preset, as on this page, it trains the first iterations. It compares their losses, and the hashes
# of configuration and code, with the committed record. A record of other code stops the script.

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
# D learns late: L_D first reads below 7 at iteration :record:`faithful/inception_8 first L_D below 7`,
# in case 1 at iteration :record:`faithful/original first L_D below 7`. In the plots of 2018 it never
# does, and its lowest reading is :record:`2018/inception_8 lowest L_D`.

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
