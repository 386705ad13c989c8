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
from gaslayers.study.audit import audit

CASE = "inception_16"
discriminator = build_discriminator(CASE, variant="as_coded")

# %%
# What it costs
# -------------
#
# Half the width makes :record:`faithful/inception_16 parameters of faithful/inception_32` of case
# 3's parameters. On the plain path a D step keeps
# :record:`faithful/inception_16 kept, plain of faithful/inception_32` of its bytes.

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
# The logits start close together. At the first reading, after one iteration, their standard
# deviation on real images is :record:`faithful/inception_16 first logit spread`. That of case 3 is
# :record:`faithful/inception_32 first logit spread over faithful/inception_16` times as large, and
# that of case 1 :record:`faithful/original first logit spread over faithful/inception_16` times. L_D
# first reads below 7 at iteration :record:`faithful/inception_16 first L_D below 7`, in case 1 at
# iteration :record:`faithful/original first L_D below 7`. Width is confounded with initial scale,
# which the original did not control.

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
