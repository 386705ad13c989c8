"""The site's figures that come out of records and modules alone, never out of a clock.

Run by hand, this file stores those of the built site as what `test_figures` expects:
``python -m tests.docs.figures docs/_build/html``. Look at each before it is committed.
"""

import base64
import io
import re
import sys
from pathlib import Path

import matplotlib
from PIL import Image

BASELINES = Path(__file__).parent / "baselines"
DRAWN_BY = BASELINES / "matplotlib.txt"
"""The release that drew them: the font comes with it, so that no machine's matters."""

WIDTH = 240  # pixels of a stored picture

# Pictures of their own files, by page; the losses of the study are inline, first on their pages.
PLOTTED = {
    "blocks": ("conv_norm_act", "dense_block", "depthwise_inception_block", "inception_block"),
    "losses": ("lsgan_losses",),
    "memory": ("costs_before_running", "fit_a_budget", "lean_against_plain"),
}
RECORDED = (
    "case_1_original",
    "case_2_depthwise_inception",
    "case_3_inception_32",
    "case_4_depthwise_inception_dense",
    "case_5_inception_16",
    "case_6_inception_8",
    "the_six_cases",
)
DRAWN = ("ConvNormAct", "DenseBlock", "DepthwiseInceptionBlock", "DownBlock", "InceptionBlock")

_INLINE = re.compile(r'src="data:image/png;base64,([^"]+)"')
_DIAGRAM = re.compile(r'<svg class="block-diagram".*?</svg>', re.S)


def release() -> str:
    """Major and minor version of the matplotlib that is here."""
    return ".".join(matplotlib.__version__.split(".")[:2])


def read_pictures(site: Path) -> dict[str, Image.Image]:
    """Every stored picture as the site shows it now, made small."""
    found = {}
    for folder, pages in PLOTTED.items():
        for page in pages:
            pattern = f"sphx_glr_{page}_[0-9][0-9][0-9].png"
            for path in sorted((site / "_images").glob(pattern)):
                found[path.stem.removeprefix("sphx_glr_")] = path.read_bytes()
            if not any(name.startswith(page) for name in found):
                raise FileNotFoundError(f"{folder}/{page} has no picture")
    for page in RECORDED:
        text = (site / "gallery" / "study" / f"{page}.html").read_text(encoding="utf-8")
        found[f"{page}_losses"] = base64.b64decode(_INLINE.search(text)[1])
    return {name: _shrink(data) for name, data in found.items()}


def _shrink(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return picture.resize(
        (WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.BOX
    )


def read_diagrams(site: Path) -> dict[str, str]:
    """The diagrams of the blocks' API pages, a line an element."""
    found = {}
    for name in DRAWN:
        text = (site / "api" / f"gaslayers.{name}.html").read_text(encoding="utf-8")
        found[name] = _DIAGRAM.search(text)[0].replace("><", ">\n<") + "\n"
    return found


def write_baselines(site: Path) -> None:
    """Store the figures of a site."""
    BASELINES.mkdir(exist_ok=True)
    DRAWN_BY.write_text(f"{release()}\n", encoding="utf-8")
    for name, picture in read_pictures(site).items():
        picture.save(BASELINES / f"{name}.png", optimize=True)
    for name, diagram in read_diagrams(site).items():
        (BASELINES / f"{name}.svg").write_text(diagram, encoding="utf-8")


if __name__ == "__main__":
    write_baselines(Path(sys.argv[1]))
