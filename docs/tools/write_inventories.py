"""Write the small inventories that the site's links to other projects are resolved with.

    python docs/tools/write_inventories.py

Each holds the names that our pages refer to, under the addresses that the project's own site has
them at. They are committed, so that a build needs no network and a moved page of another project
breaks no build. A strict build names what is missing here.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

from sphinx.util.inventory import InventoryFile

FOLDER = Path(__file__).resolve().parents[1] / "inventories"


def _torch_page(name: str) -> str:
    return f"generated/{name}.html#{name}"


def _python_page(module: str, name: str) -> str:
    return f"library/{module}.html#{name}"


# By project: its title, and (name, type, page) of each entry.
PROJECTS: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "torch": (
        "PyTorch",
        [
            *(
                (name, "py:class", _torch_page(name))
                for name in (
                    "torch.nn.AvgPool2d",
                    "torch.nn.BatchNorm2d",
                    "torch.nn.Conv2d",
                    "torch.nn.MaxPool2d",
                    "torch.nn.Module",
                    "torch.nn.ReLU",
                )
            ),
            # Where signatures name a class by the file that defines it.
            *(
                (private, "py:class", _torch_page(public))
                for private, public in (
                    ("torch.nn.modules.module.Module", "torch.nn.Module"),
                    ("torch.nn.parameter.Parameter", "torch.nn.parameter.Parameter"),
                )
            ),
            *(
                (name, "py:class", "optim.html#torch.optim.Optimizer")
                for name in ("torch.optim.Optimizer", "torch.optim.optimizer.Optimizer")
            ),
            ("torch.optim.Adam", "py:class", _torch_page("torch.optim.Adam")),
            ("torch.device", "py:class", "tensor_attributes.html#torch.device"),
            ("torch.compile", "py:function", _torch_page("torch.compile")),
            ("torch.Tensor", "py:class", "tensors.html#torch.Tensor"),
            ("torch.dtype", "py:class", "tensor_attributes.html#torch.dtype"),
            ("torch.func", "py:module", "func.html#module-torch.func"),
        ],
    ),
    "python": (
        "Python",
        [
            *(
                (name, "py:class", _python_page("functions", name))
                for name in ("bool", "dict", "float", "int", "object", "tuple")
            ),
            ("str", "py:class", _python_page("stdtypes", "str")),
            ("list", "py:class", _python_page("stdtypes", "list")),
            ("None", "py:data", _python_page("constants", "None")),
            ("typing.Any", "py:data", _python_page("typing", "typing.Any")),
            ("typing.Literal", "py:data", _python_page("typing", "typing.Literal")),
            *(
                (
                    f"collections.abc.{name}",
                    "py:class",
                    _python_page("collections.abc", f"collections.abc.{name}"),
                )
                for name in ("Callable", "Collection", "Iterable", "Mapping", "Sequence")
            ),
            *(
                (name, "py:exception", _python_page("exceptions", name))
                for name in ("AssertionError", "RuntimeError", "TypeError", "ValueError")
            ),
            ("os.PathLike", "py:class", _python_page("os", "os.PathLike")),
            ("pathlib.Path", "py:class", _python_page("pathlib", "pathlib.Path")),
            (
                "dataclasses.replace",
                "py:function",
                _python_page("dataclasses", "dataclasses.replace"),
            ),
        ],
    ),
    "numpy": (
        "NumPy",
        [("numpy.ndarray", "py:class", "reference/generated/numpy.ndarray.html#numpy.ndarray")],
    ),
    "matplotlib": (
        "Matplotlib",
        [
            (
                "matplotlib.figure.Figure",
                "py:class",
                "api/figure_api.html#matplotlib.figure.Figure",
            )
        ],
    ),
    "einops": ("einops", [("einops.rearrange", "py:function", "api/rearrange/")]),
    "fabric": (
        "Lightning Fabric",
        [
            (
                "lightning_fabric.fabric.Fabric",
                "py:class",
                "api/generated/lightning.fabric.fabric.Fabric.html#lightning.fabric.fabric.Fabric",
            )
        ],
    ),
    "hypothesis": (
        "Hypothesis",
        [
            (
                "hypothesis.strategies.SearchStrategy",
                "py:class",
                "reference/strategies.html#hypothesis.strategies.SearchStrategy",
            )
        ],
    ),
}


def inventory(title: str, entries: list[tuple[str, str, str]]) -> bytes:
    """An inventory in Sphinx's format, version 2."""
    header = (
        "# Sphinx inventory version 2\n"
        f"# Project: {title}\n"
        "# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    lines = "".join(f"{name} {kind} 1 {page} -\n" for name, kind, page in sorted(entries))
    return header.encode() + zlib.compress(lines.encode(), 9)


def main() -> None:
    """Write every inventory, and read it back."""
    FOLDER.mkdir(exist_ok=True)
    for name, (title, entries) in PROJECTS.items():
        content = inventory(title, entries)
        InventoryFile.loads(content, uri="")
        (FOLDER / f"{name}.inv").write_bytes(content)
        sys.stdout.write(f"{name}: {len(entries)} names\n")


if __name__ == "__main__":
    main()
