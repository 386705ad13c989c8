r"""
Case 3: inception, 32 base filters
==================================

The headline of the 2018 study: an inception discriminator that "performs about like the original
at 1.59x less memory". It is the case to beat the plain network with.
"""

# %%
# The network
# -----------
#
# Each block is an :class:`~gaslayers.InceptionBlock` of a 1x1 and a 3x3 branch. The drawing of 2018
# shows a 1x1 in front of the 3x3; in the source its output was overwritten, so that both branches
# read the stage's input: ``bottleneck=False``. The stages are as wide as the plain network's.
#
# .. block-diagram:: build_discriminator("inception_32", variant="as_coded")
#    :shape: 32 1 28 28
#    :depth: 3

# sphinx_gallery_thumbnail_path = "../examples/records/faithful/inception_32-as_coded-seed0/samples/001999.png"
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

CASE = "inception_32"
discriminator = build_discriminator(CASE, variant="as_coded")

# %%
# What it costs
# -------------
#
# It has :record:`faithful/inception_32 parameters of faithful/original` of the plain network's
# parameters and :record:`faithful/inception_32 FLOPs of faithful/original` of its FLOPs. What a
# training step keeps depends on the widths of the maps, and those are the plain network's. On the
# plain path a D step keeps :record:`faithful/inception_32 kept, plain of faithful/original` of what
# case 1 keeps. The saving of 777 / 489 was one of the process, not of the network
# (:doc:`/gallery/memory/what_777_mb_measured`).

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

parser = argparse.ArgumentParser(description="Case 3: inception, 32 base filters.")
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
# 2018 claimed that this case trains about as well as case 1, so the curves should look like that
# one's. L_D fell to :record:`faithful/inception_32 lowest L_D` here and to
# :record:`faithful/original lowest L_D` there. One seed can neither support the claim nor refute it.

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
