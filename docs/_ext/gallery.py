"""What sphinx-gallery is told: how a script starts afresh, and what it is given."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

RECORDS = Path(__file__).resolve().parents[2] / "examples" / "records" / "faithful"

# Okabe and Ito's colours, which colour-blind eyes tell apart, without the yellow, too pale to read.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE = {
    "figure.figsize": (5.2, 3.4),  # inches: small enough for the words to be read on a phone
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}


def reset(_gallery_conf: dict[str, Any], _script: str) -> None:
    """Let each script start from one seed and one style, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (scripts of others may use the global generator)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    plt.close("all")
    mpl.rcdefaults()
    mpl.use("agg")
    mpl.rcParams.update(STYLE)


def arguments_of(_gallery_conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """What a script is given on its command line: where the records are, if it is the study's."""
    return ["--records", str(RECORDS)] if Path(script["src_file"]).parent.name == "study" else []
