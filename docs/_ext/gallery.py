"""What sphinx-gallery is told: how a script starts afresh, and what its notebook looks like."""

from __future__ import annotations

import builtins
import json
import random
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from sphinx.application import Sphinx

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

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


def reset(_gallery_conf: dict[str, Any], script: str) -> None:
    """Let each script start from one seed and one style, whatever ran before it."""
    # sphinx-gallery runs a script without telling it where it is; Python does.
    builtins.__file__ = str(next(EXAMPLES.glob(f"*/{script}")))
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (scripts of others may use the global generator)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    plt.close("all")
    mpl.rcdefaults()
    mpl.use("agg")
    mpl.rcParams.update(STYLE)


# A directive of this site means nothing to a notebook.
_DIRECTIVE = re.compile(
    r"^\.\. (?:block-diagram|cost-table|executed)::.*\n(?:[ \t]+.*\n|\n)*", re.M
)


def clean_notebooks(app: Sphinx) -> None:
    """Take the pictures that only the site can draw out of the notebooks' prose."""
    for path in Path(app.srcdir, "gallery").rglob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                text = "".join(cell["source"])
                cell["source"] = [_DIRECTIVE.sub("", text + "\n").rstrip()]
        path.write_text(json.dumps(notebook, indent=1) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Run after sphinx-gallery has written its pages."""
    app.connect("builder-inited", clean_notebooks, priority=900)
    return {"parallel_read_safe": True}
